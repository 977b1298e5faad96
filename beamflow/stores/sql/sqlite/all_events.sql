SELECT position, stream, seq, at, crc, CAST(data AS BLOB)
FROM beamflow_events
WHERE position > :after
ORDER BY position
LIMIT :limit
