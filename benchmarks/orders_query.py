"""The SQL in the middle of CSV → SQL → CSV; alone, so that a yardstick imports nothing else of ours."""

QUERY = (
    "SELECT order_id, customer_id, country, product, amount * quantity AS total, paid, ordered_at "
    "FROM orders WHERE country <> 'DE'"
)
