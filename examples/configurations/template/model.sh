# A model, as far as an example needs one: a value an hour.
hour=0
while [ "$hour" -lt {{ hours }} ]; do
  echo "$hour,$((hour * hour % 7))"
  hour=$((hour + 1))
done > outputs/levels.csv
