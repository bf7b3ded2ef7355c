-- What the example reads, for a PostgreSQL of your own: psql -f examples/databases/shop.sql
CREATE TABLE orders (order_id bigint PRIMARY KEY, customer_id integer, amount numeric(12,2), paid boolean, ordered_at timestamptz);
INSERT INTO orders
SELECT i, i % 4, i * 1.25, i % 3 > 0, timestamptz '2025-12-30 12:00Z' + i * interval '1 hour' FROM generate_series(1, 200) AS i;
