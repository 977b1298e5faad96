-- Each stretch gives its own first page from the index; what is left to sort is a few pages at most.
{wanted}
SELECT
  '['
  || coalesce(group_concat((SELECT s.summary FROM beamflow_summaries AS s WHERE s.id = found.id), ','), '')
  || ']'
FROM (
  SELECT w.id
  FROM wanted
  CROSS JOIN beamflow_workflows AS w
  WHERE w.id IN (
    SELECT c.id
    FROM {matching}
    ORDER BY c.started_at {direction}, c.id {direction}
    LIMIT :limit
  )
  ORDER BY w.started_at {direction}, w.id {direction}
  LIMIT :limit
) AS found
