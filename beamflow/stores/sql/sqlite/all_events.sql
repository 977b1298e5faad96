SELECT position, stream, seq, at, crc, CAST(data AS BLOB)
FROM beamflow_events
WHERE position > :after AND stream NOT IN (SELECT stream FROM beamflow_removing)
ORDER BY position
LIMIT :limit
