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
order_id < CAST(:param_1 AS uniqueidentifier) OR order_id IS NULL
-- :param_1 = '6F9619FF-8B86-D011-B42D-00C04FC964FF'

-- a range
order_id >= CAST(:param_1 AS uniqueidentifier) AND order_id < CAST(:param_2 AS uniqueidentifier)
-- :param_1 = '6F9619FF-8B86-D011-B42D-00C04FC964FF'
-- :param_2 = '7F9619FF-8B86-D011-B42D-00C04FC964FF'

-- a range
order_id >= CAST(:param_1 AS uniqueidentifier)
-- :param_1 = '7F9619FF-8B86-D011-B42D-00C04FC964FF'
