-- Until when a workflow sleeps, NULL for one that is awake; a note of its engine, and no part of any summary.
ALTER TABLE beamflow_workflows ADD COLUMN wake_at INTEGER;

-- Whether recovery looks after it although it sleeps.
ALTER TABLE beamflow_workflows ADD COLUMN watched INTEGER NOT NULL DEFAULT 0;

CREATE INDEX beamflow_workflows_by_wake ON beamflow_workflows (wake_at, id) WHERE wake_at IS NOT NULL;

CREATE TRIGGER beamflow_journal_slept INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 8
BEGIN
  SELECT RAISE(ABORT, 'fenced') WHERE NOT EXISTS (
    SELECT 1 FROM beamflow_leases WHERE partition = 0 AND epoch = NEW.epoch AND owner IS NOT NULL
  );
  UPDATE beamflow_workflows SET wake_at = nullif(NEW.at, 0), watched = NEW.seq WHERE id = NEW.stream;
END;
