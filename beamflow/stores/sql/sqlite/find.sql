-- Each stretch gives its own first page from the index; what is left to sort is a few pages at most.
{wanted}
SELECT
  count(*),
  '['
  || coalesce(group_concat((SELECT s.summary FROM beamflow_summaries AS s WHERE s.id = found.id), ','), '')
  || ']'
FROM (
  SELECT id
  FROM (
{arms}
  )
  ORDER BY started_at {direction}, id {direction}
  LIMIT :limit
) AS found
