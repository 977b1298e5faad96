-- :rows is a JSON array of [kind, stream, seq, at, epoch, crc, first byte, bytes]; :data all data, end to end.
INSERT INTO beamflow_journal (kind, stream, seq, at, epoch, crc, data)
SELECT
  value ->> 0, value ->> 1, value ->> 2, value ->> 3, value ->> 4, value ->> 5,
  CAST(substr(:data, value ->> 6, value ->> 7) AS TEXT)
FROM json_each(:rows)
