      AND EXISTS (
        SELECT 1
        FROM beamflow_workflows AS w
        WHERE w.id = c.id AND w.workflow = :workflow AND w.version = coalesce(:version, w.version)
      )
