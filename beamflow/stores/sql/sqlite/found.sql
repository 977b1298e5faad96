    SELECT w.id AS id, w.started_at AS started_at
    FROM wanted
    CROSS JOIN beamflow_workflows AS w
    WHERE wanted.arm = {arm} AND w.id IN (
      SELECT c.id
      FROM {matching}
      ORDER BY c.started_at {direction}, c.id {direction}
      LIMIT :limit
    )
