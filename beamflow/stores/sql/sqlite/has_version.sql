      AND EXISTS (
        SELECT 1
        FROM beamflow_workflows AS w INDEXED BY beamflow_workflows_by_name
        WHERE
          w.workflow = :workflow AND w.version = :version
          AND w.state = c.state AND w.started_at = c.started_at AND w.id = c.id
      )
