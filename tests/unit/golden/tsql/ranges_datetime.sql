-- the bounds
SELECT COUNT_BIG(*) AS anon_1
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL

-- the bounds
SELECT numbered.bound
FROM (SELECT CONVERT(varchar(34), order_id, 121) AS bound, row_number() OVER (ORDER BY order_id) AS place
FROM [sales.eu].[Order]]Line]
WHERE order_id IS NOT NULL) AS numbered
WHERE numbered.place IN (:place_1_1, :place_1_2, :place_1_3) ORDER BY numbered.place
-- :place_1_1 = 1
-- :place_1_2 = 334
-- :place_1_3 = 667

-- a range
order_id < CAST(CAST(:param_1 AS datetime2(7)) AS datetime) OR order_id IS NULL
-- :param_1 = '2026-01-01 10:00:00.003'

-- a range
order_id >= CAST(CAST(:param_1 AS datetime2(7)) AS datetime) AND order_id < CAST(CAST(:param_2 AS datetime2(7)) AS datetime)
-- :param_1 = '2026-01-01 10:00:00.003'
-- :param_2 = '2026-01-02 10:00:00.997'

-- a range
order_id >= CAST(CAST(:param_1 AS datetime2(7)) AS datetime)
-- :param_1 = '2026-01-02 10:00:00.997'
