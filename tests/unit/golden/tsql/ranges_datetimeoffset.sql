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
order_id < CAST(:param_1 AS datetimeoffset(7)) OR order_id IS NULL
-- :param_1 = '2026-01-01 10:00:00.1234567 +02:00'

-- a range
order_id >= CAST(:param_1 AS datetimeoffset(7)) AND order_id < CAST(:param_2 AS datetimeoffset(7))
-- :param_1 = '2026-01-01 10:00:00.1234567 +02:00'
-- :param_2 = '2026-01-02 10:00:00 +00:00'

-- a range
order_id >= CAST(:param_1 AS datetimeoffset(7))
-- :param_1 = '2026-01-02 10:00:00 +00:00'
