CREATE TABLE beamflow_meta (
  key TEXT PRIMARY KEY,
  value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO beamflow_meta (key, value) VALUES ('schema', '0'), ('store', lower(hex(randomblob(16))));

-- A rowid table: events are added at its end, and only the small index is written all over.
CREATE TABLE beamflow_events (
  position INTEGER PRIMARY KEY,
  stream TEXT NOT NULL,
  seq INTEGER NOT NULL CHECK (seq > 0),
  at INTEGER NOT NULL,
  epoch INTEGER NOT NULL,
  crc INTEGER NOT NULL,
  data TEXT NOT NULL,
  UNIQUE (stream, seq)
) STRICT;

-- What people wrote (error, note) stays JSON text, as it came: SQLite would cut it at a NUL.
CREATE TABLE beamflow_workflows (
  id TEXT PRIMARY KEY,
  workflow TEXT NOT NULL,
  version INTEGER NOT NULL,
  state TEXT NOT NULL,
  started_at INTEGER NOT NULL,
  closed_at INTEGER,
  error TEXT NOT NULL
) STRICT;

CREATE INDEX beamflow_workflows_by_state ON beamflow_workflows (state, started_at, id, workflow);

CREATE TABLE beamflow_dead_letters (
  workflow_id TEXT PRIMARY KEY,
  workflow TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  letter TEXT NOT NULL,
  state TEXT NOT NULL,
  closed_at INTEGER,
  note TEXT NOT NULL,
  retried_as TEXT NOT NULL
) STRICT;

CREATE INDEX beamflow_dead_letters_by_state ON beamflow_dead_letters (state, created_at, workflow_id, workflow);

-- os_locked: the owner holds the lock file as well, so a lock that can be had tells that it is dead.
CREATE TABLE beamflow_leases (
  partition INTEGER PRIMARY KEY,
  owner TEXT,
  epoch INTEGER NOT NULL,
  expires_at INTEGER NOT NULL,
  os_locked INTEGER NOT NULL
) STRICT;

INSERT INTO beamflow_leases (partition, owner, epoch, expires_at, os_locked) VALUES (0, NULL, 0, 0, 0);

-- What a commit inserts into: a whole batch of appends is one statement, the triggers check and sort.
CREATE VIEW beamflow_journal (kind, stream, seq, at, epoch, crc, data) AS
  SELECT 0, '', 0, 0, 0, 0, '' WHERE 0;

CREATE TRIGGER beamflow_journal_event INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 0
BEGIN
  SELECT RAISE(ABORT, 'fenced') WHERE NOT EXISTS (
    SELECT 1 FROM beamflow_leases WHERE partition = 0 AND epoch = NEW.epoch AND owner IS NOT NULL
  );
  SELECT CASE
    WHEN EXISTS (SELECT 1 FROM beamflow_events WHERE stream = NEW.stream AND seq = NEW.seq)
      THEN RAISE(ABORT, 'conflict')
    WHEN EXISTS (SELECT 1 FROM beamflow_events WHERE stream = NEW.stream AND seq = NEW.seq - 1)
      THEN RAISE(ABORT, 'time')
    ELSE RAISE(ABORT, 'conflict')
  END
  WHERE NEW.seq > 1 AND NOT EXISTS (
    SELECT 1 FROM beamflow_events WHERE stream = NEW.stream AND seq = NEW.seq - 1 AND at <= NEW.at
  );
  INSERT INTO beamflow_events (stream, seq, at, epoch, crc, data)
  VALUES (NEW.stream, NEW.seq, NEW.at, NEW.epoch, NEW.crc, NEW.data);
END;

CREATE TRIGGER beamflow_journal_workflow_opened INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 1
BEGIN
  INSERT OR REPLACE INTO beamflow_workflows (id, workflow, version, state, started_at, closed_at, error)
  VALUES (
    NEW.stream, NEW.data ->> 'workflow', NEW.data ->> 'version', NEW.data ->> 'state',
    NEW.data ->> 'started_at', NEW.data ->> 'closed_at', NEW.data -> 'error'
  );
END;

CREATE TRIGGER beamflow_journal_workflow_moved INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 2
BEGIN
  UPDATE beamflow_workflows
  SET state = NEW.data ->> 'state', closed_at = NEW.data ->> 'closed_at', error = NEW.data -> 'error'
  WHERE id = NEW.stream;
END;

CREATE TRIGGER beamflow_journal_letter_opened INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 3
BEGIN
  INSERT OR REPLACE INTO beamflow_dead_letters (
    workflow_id, workflow, created_at, letter, state, closed_at, note, retried_as
  )
  VALUES (
    NEW.stream, NEW.data ->> 'workflow', NEW.data ->> 'created_at', NEW.data, 'open', NULL, '""', ''
  );
END;

CREATE TRIGGER beamflow_journal_letter_closed INSTEAD OF INSERT ON beamflow_journal WHEN NEW.kind = 4
BEGIN
  UPDATE beamflow_dead_letters
  SET
    state = NEW.data ->> 'state', closed_at = NEW.data ->> 'closed_at', note = NEW.data -> 'note',
    retried_as = NEW.data ->> 'retried_as'
  WHERE workflow_id = NEW.stream;
END;
