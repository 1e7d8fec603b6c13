-- the bounds
SELECT COUNT_BIG(*) AS anon_1
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL

-- the bounds
SELECT numbered.bound
FROM (SELECT order_id AS bound, row_number() OVER (ORDER BY order_id) AS place
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL) AS numbered
WHERE numbered.place IN (:place_1_1, :place_1_2, :place_1_3) ORDER BY numbered.place
-- :place_1_1 = 1
-- :place_1_2 = 334
-- :place_1_3 = 667

-- a range
order_id < CAST(:param_1 AS varchar(20)) OR order_id IS NULL
-- :param_1 = 'a'

-- a range
order_id >= CAST(:param_1 AS varchar(20)) AND order_id < CAST(:param_2 AS varchar(20))
-- :param_1 = 'a'
-- :param_2 = 'z'

-- a range
order_id >= CAST(:param_1 AS varchar(20))
-- :param_1 = 'z'
