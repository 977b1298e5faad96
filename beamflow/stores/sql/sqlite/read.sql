-- One row, whatever is read: each row more would be another fight for the interpreter lock.
SELECT
  json_group_array(json_array(seq, at, epoch, crc, length(CAST(data AS BLOB)))),
  CAST(group_concat(data, '') AS BLOB)
FROM (
  SELECT seq, at, epoch, crc, data
  FROM beamflow_events
  WHERE stream = :stream AND seq > :after
  ORDER BY seq
  LIMIT :limit
)
