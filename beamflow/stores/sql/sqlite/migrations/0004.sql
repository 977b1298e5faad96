-- Workflows whose removal has begun: they are gone, and so are the events from the second on, up to some place.
CREATE TABLE beamflow_removing (
  stream TEXT PRIMARY KEY,
  seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX beamflow_results_by_workflow ON beamflow_results (kept ->> 'workflow_id', expires_at);

-- What has ended and is not needed, as stores/removal.py says; needed_until: until when a result of it is shared.
CREATE VIEW beamflow_removable (id, state, closed_at, seq, needed_until) AS
  SELECT
    w.id, w.state, w.closed_at,
    (SELECT max(e.seq) FROM beamflow_events AS e WHERE e.stream = w.id),
    coalesce((SELECT max(r.expires_at) FROM beamflow_results AS r WHERE r.kept ->> 'workflow_id' = w.id), 0)
  FROM beamflow_workflows AS w
  WHERE
    w.closed_at IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM beamflow_letters AS d WHERE d.workflow_id = w.id AND d.state = 'open')
    AND NOT EXISTS (
      SELECT 1
      FROM beamflow_labels AS l
      CROSS JOIN beamflow_workflows AS c ON c.id = l.id
      WHERE
        l.kind = 2 AND l.name = w.id AND l.value = ''
        AND l.state IN ('pending', 'running', 'paused', 'compensating', 'parked')
        AND c.on_close <> 'abandon'
    )
    AND NOT EXISTS (
      SELECT 1
      FROM beamflow_workflows AS p
      WHERE
        p.id = w.parent
        AND p.state NOT IN ('completed', 'cancelled')
        AND coalesce((SELECT e.at FROM beamflow_events AS e WHERE e.stream = p.id AND e.seq = p.run_seq), 0) <= w.closed_at
    );

-- seq: of the last event. A long log goes in pieces; its first event is the last to go, so that until then
-- nothing else can be written under the id.
CREATE TRIGGER beamflow_journal_removed INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 9
BEGIN
  SELECT RAISE(ABORT, 'fenced') WHERE NOT EXISTS (
    SELECT 1 FROM beamflow_leases WHERE partition = 0 AND epoch = NEW.epoch AND owner IS NOT NULL
  );
  SELECT RAISE(ABORT, 'conflict') WHERE NOT EXISTS (
    SELECT 1 FROM beamflow_removable WHERE id = NEW.stream AND seq = NEW.seq AND needed_until <= NEW.at
  );
  DELETE FROM beamflow_workflows WHERE id = NEW.stream;
  DELETE FROM beamflow_labels WHERE id = NEW.stream;
  DELETE FROM beamflow_letters WHERE workflow_id = NEW.stream;
  INSERT INTO beamflow_removing (stream, seq) VALUES (NEW.stream, NEW.seq);
END;

CREATE TRIGGER beamflow_journal_cleared INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 10
BEGIN
  SELECT RAISE(ABORT, 'fenced') WHERE NOT EXISTS (
    SELECT 1 FROM beamflow_leases WHERE partition = 0 AND epoch = NEW.epoch AND owner IS NOT NULL
  );
  DELETE FROM beamflow_events
  WHERE
    stream = NEW.stream
    AND seq BETWEEN 2 AND NEW.seq
    AND EXISTS (SELECT 1 FROM beamflow_removing WHERE stream = NEW.stream);
  DELETE FROM beamflow_events
  WHERE
    stream = NEW.stream
    AND seq = 1
    AND EXISTS (SELECT 1 FROM beamflow_removing WHERE stream = NEW.stream AND seq <= NEW.seq);
  DELETE FROM beamflow_removing WHERE stream = NEW.stream AND seq <= NEW.seq;
END;

-- A letter is of a workflow that is there: when the indexes are derived again, those of removed ones stay away.
DROP TRIGGER beamflow_journal_letter_opened;

CREATE TRIGGER beamflow_journal_letter_opened INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 3
BEGIN
  INSERT INTO beamflow_letters (
    workflow_id, number, workflow, created_at, outcome, letter, state, closed_at, note, retried_as
  )
  SELECT
    NEW.stream,
    1 + coalesce((SELECT max(number) FROM beamflow_letters WHERE workflow_id = NEW.stream), 0),
    NEW.data ->> 'workflow', NEW.data ->> 'created_at', NEW.data ->> 'outcome', NEW.data,
    'open', NULL, '""', ''
  WHERE EXISTS (SELECT 1 FROM beamflow_workflows WHERE id = NEW.stream);
END;
