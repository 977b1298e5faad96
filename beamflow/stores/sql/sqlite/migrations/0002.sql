ALTER TABLE beamflow_workflows ADD COLUMN begin_at INTEGER;

ALTER TABLE beamflow_workflows ADD COLUMN deadline INTEGER;

ALTER TABLE beamflow_workflows ADD COLUMN cancelling INTEGER NOT NULL DEFAULT 0;

ALTER TABLE beamflow_workflows ADD COLUMN parent TEXT;

ALTER TABLE beamflow_workflows ADD COLUMN on_close TEXT NOT NULL DEFAULT '';

ALTER TABLE beamflow_workflows ADD COLUMN run INTEGER NOT NULL DEFAULT 0;

ALTER TABLE beamflow_workflows ADD COLUMN run_seq INTEGER NOT NULL DEFAULT 1;

ALTER TABLE beamflow_workflows ADD COLUMN progress TEXT NOT NULL DEFAULT 'null';

CREATE INDEX beamflow_workflows_by_name ON beamflow_workflows (workflow, version, state, started_at, id);

-- What a workflow can be found by: tags (kind 0), attributes (1), its parent (2). Names and values of the
-- first two are JSON text. State and start are those of the workflow, so that a page is one stretch of the index.
CREATE TABLE beamflow_labels (
  id TEXT NOT NULL,
  kind INTEGER NOT NULL,
  name TEXT NOT NULL,
  value TEXT NOT NULL,
  state TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  PRIMARY KEY (id, kind, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX beamflow_labels_by_value ON beamflow_labels (kind, name, value, state, started_at, id);

CREATE VIEW beamflow_summaries (id, summary) AS
  SELECT
    id,
    json_object(
      'id', id, 'workflow', workflow, 'version', version, 'state', state, 'started_at', started_at,
      'closed_at', closed_at, 'error', json(error), 'begin_at', begin_at, 'deadline', deadline,
      'cancelling', json(iif(cancelling, 'true', 'false')), 'parent', parent, 'on_close', on_close,
      'run', run, 'run_seq', run_seq, 'progress', json(progress),
      'tags', json((
        SELECT '[' || coalesce(group_concat(name, ','), '') || ']'
        FROM beamflow_labels AS label
        WHERE label.id = w.id AND label.kind = 0
      )),
      'attributes', json((
        SELECT '{' || coalesce(group_concat(name || ':' || value, ','), '') || '}'
        FROM beamflow_labels AS label
        WHERE label.id = w.id AND label.kind = 1
      ))
    )
  FROM beamflow_workflows AS w;

-- outcome: how the failure left the workflow, 'failed', 'parked' or 'running'.
CREATE TABLE beamflow_letters (
  workflow_id TEXT NOT NULL,
  number INTEGER NOT NULL,
  workflow TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  outcome TEXT NOT NULL,
  letter TEXT NOT NULL,
  state TEXT NOT NULL,
  closed_at INTEGER,
  note TEXT NOT NULL,
  retried_as TEXT NOT NULL,
  UNIQUE (workflow_id, number)
) STRICT;

CREATE INDEX beamflow_letters_by_state ON beamflow_letters (state, created_at, workflow_id, number, workflow);

-- Until now the last letter of a workflow took the place of those before it; the log has their number.
INSERT INTO beamflow_letters (
  workflow_id, number, workflow, created_at, outcome, letter, state, closed_at, note, retried_as
)
WITH
  parked (workflow_id, times) AS MATERIALIZED (
    SELECT data ->> 'workflow_id', count(*)
    FROM beamflow_events
    WHERE
      stream = '$dead-letters'
      AND CASE WHEN json_valid(data) THEN data ->> 'type' = 'dead_lettered' END
    GROUP BY 1
  ),
  latest AS (
    SELECT
      *,
      CASE WHEN letter ->> 'reason' IN ('step_failed', 'workflow_error') THEN 'failed' ELSE 'parked' END
        AS outcome
    FROM beamflow_dead_letters
  )
SELECT
  l.workflow_id, max(1, coalesce(p.times, 0) + (l.outcome = 'failed')), l.workflow, l.created_at,
  l.outcome, l.letter, l.state, l.closed_at, l.note, l.retried_as
FROM latest AS l
LEFT JOIN parked AS p ON p.workflow_id = l.workflow_id;

DROP TRIGGER beamflow_journal_letter_opened;

DROP TRIGGER beamflow_journal_letter_closed;

DROP TABLE beamflow_dead_letters;

CREATE TRIGGER beamflow_journal_letter_opened INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 3
BEGIN
  INSERT INTO beamflow_letters (
    workflow_id, number, workflow, created_at, outcome, letter, state, closed_at, note, retried_as
  )
  VALUES (
    NEW.stream,
    1 + coalesce((SELECT max(number) FROM beamflow_letters WHERE workflow_id = NEW.stream), 0),
    NEW.data ->> 'workflow', NEW.data ->> 'created_at', NEW.data ->> 'outcome', NEW.data,
    'open', NULL, '""', ''
  );
END;

CREATE TRIGGER beamflow_journal_letter_closed INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 4
BEGIN
  UPDATE beamflow_letters
  SET
    state = NEW.data ->> 'state', closed_at = NEW.data ->> 'closed_at', note = NEW.data -> 'note',
    retried_as = NEW.data ->> 'retried_as'
  WHERE workflow_id = NEW.stream AND number = (
    SELECT max(number)
    FROM beamflow_letters
    WHERE
      workflow_id = NEW.stream
      AND state = 'open'
      AND NEW.data ->> 'number' IN (0, number)
      AND outcome = coalesce(NEW.data ->> 'outcome', outcome)
  );
END;

DROP TRIGGER beamflow_journal_workflow_opened;

DROP TRIGGER beamflow_journal_workflow_moved;

CREATE TRIGGER beamflow_journal_workflow_opened INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 1
BEGIN
  INSERT OR REPLACE INTO beamflow_workflows (
    id, workflow, version, state, started_at, closed_at, error, begin_at, deadline, parent, on_close
  )
  VALUES (
    NEW.stream, NEW.data ->> 'workflow', NEW.data ->> 'version', NEW.data ->> 'state',
    NEW.data ->> 'started_at', NEW.data ->> 'closed_at', NEW.data -> 'error', NEW.data ->> 'begin_at',
    NEW.data ->> 'deadline', NEW.data ->> 'parent', NEW.data ->> 'on_close'
  );
  DELETE FROM beamflow_labels WHERE id = NEW.stream;
  INSERT INTO beamflow_labels (id, kind, name, value, state, started_at)
  SELECT
    NEW.stream, 2, NEW.data ->> 'parent', '', NEW.data ->> 'state', NEW.data ->> 'started_at'
  WHERE NEW.data ->> 'parent' IS NOT NULL;
END;

CREATE TRIGGER beamflow_journal_workflow_moved INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 2
BEGIN
  UPDATE beamflow_workflows
  SET
    state = NEW.data ->> 'state', closed_at = NEW.data ->> 'closed_at',
    error = coalesce(NEW.data -> 'error', error),
    cancelling = cancelling AND NEW.data ->> 'closed_at' IS NULL
  WHERE id = NEW.stream;
  UPDATE beamflow_labels SET state = NEW.data ->> 'state' WHERE id = NEW.stream;
END;

CREATE TRIGGER beamflow_journal_workflow_updated INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 5
BEGIN
  UPDATE beamflow_workflows
  SET
    cancelling = coalesce(NEW.data ->> 'cancelling', cancelling),
    progress = coalesce(NEW.data -> 'progress', progress), run = coalesce(NEW.data ->> 'run', run),
    run_seq = coalesce(NEW.data ->> 'run_seq', run_seq)
  WHERE id = NEW.stream;
END;

CREATE TRIGGER beamflow_journal_labels_changed INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 6
BEGIN
  INSERT OR REPLACE INTO beamflow_labels (id, kind, name, value, state, started_at)
  SELECT w.id, label.value ->> 0, label.value ->> 1, label.value ->> 2, w.state, w.started_at
  FROM json_each(NEW.data, '$.put') AS label
  CROSS JOIN beamflow_workflows AS w
  WHERE w.id = NEW.stream;
  DELETE FROM beamflow_labels
  WHERE
    id = NEW.stream
    AND (kind, name) IN (SELECT value ->> 0, value ->> 1 FROM json_each(NEW.data, '$.take'));
END;

-- Results of steps that all workflows share, until they expire.
CREATE TABLE beamflow_results (
  step TEXT NOT NULL,
  key TEXT NOT NULL,
  expires_at INTEGER NOT NULL,
  kept TEXT NOT NULL,
  UNIQUE (step, key)
) STRICT;

CREATE INDEX beamflow_results_by_end ON beamflow_results (expires_at);

-- Each one that comes takes a few away that have expired before: there are never many more than are in use.
CREATE TRIGGER beamflow_journal_result_kept INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 7
BEGIN
  DELETE FROM beamflow_results
  WHERE rowid IN (
    SELECT rowid FROM beamflow_results WHERE expires_at <= NEW.at ORDER BY expires_at LIMIT 10
  );
  INSERT OR REPLACE INTO beamflow_results (step, key, expires_at, kept)
  VALUES (NEW.data ->> 'step', NEW.data ->> 'key', NEW.data ->> 'expires_at', NEW.data);
END;
