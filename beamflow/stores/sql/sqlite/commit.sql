-- ?1: JSON array of [kind, stream, seq, at, epoch, crc, first byte, bytes]; ?2: all data, end to end.
INSERT INTO beamflow_journal (kind, stream, seq, at, epoch, crc, data)
SELECT
  value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
  CAST(substr(?2, value ->> 6, value ->> 7) AS TEXT)
FROM json_each(?1)
