-- A table without rowid keeps whole rows in its index, and bodies are too long for
-- that: docs/adr/0006-rows-with-a-rowid.md.

-- +goose Up
ALTER TABLE rows RENAME TO rows_before;
CREATE TABLE rows (
  kind     TEXT    NOT NULL,
  id       TEXT    NOT NULL,
  parent   TEXT    NOT NULL,
  sort     TEXT    NOT NULL,
  rev      INTEGER NOT NULL, -- the commit that wrote it
  term     INTEGER NOT NULL, -- the opening of the store that wrote it
  hot      INTEGER NOT NULL, -- 1: it is in the view
  created  INTEGER NOT NULL, -- documents only: nanoseconds since 1970, 0: none
  modified INTEGER NOT NULL,
  writer   TEXT    NOT NULL, -- documents only: who wrote it last
  body     BLOB    NOT NULL, -- JSON
  PRIMARY KEY (kind, id)
);
INSERT INTO rows SELECT kind, id, parent, sort, rev, term, hot, created, modified, writer, body FROM rows_before;
DROP TABLE rows_before;
CREATE INDEX rows_listed ON rows (kind, parent, sort, id);
CREATE INDEX rows_hot ON rows (kind) WHERE hot = 1;
