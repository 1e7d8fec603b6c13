-- the bounds
SELECT COUNT_BIG(*) AS anon_1
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL

-- the bounds
SELECT numbered.bound
FROM (SELECT CAST(order_id AS NVARCHAR(max)) AS bound, row_number() OVER (ORDER BY order_id) AS place
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL) AS numbered
WHERE numbered.place IN (:place_1_1, :place_1_2, :place_1_3) ORDER BY numbered.place
-- :place_1_1 = 1
-- :place_1_2 = 334
-- :place_1_3 = 667

-- a range
order_id < CAST(:param_1 AS decimal(18,4)) OR order_id IS NULL
-- :param_1 = '1.0000'

-- a range
order_id >= CAST(:param_1 AS decimal(18,4)) AND order_id < CAST(:param_2 AS decimal(18,4))
-- :param_1 = '1.0000'
-- :param_2 = '12345678901234.5678'

-- a range
order_id >= CAST(:param_1 AS decimal(18,4))
-- :param_1 = '12345678901234.5678'
