-- One table for every kind of row: docs/adr/0002-rows-in-one-table.md.

-- +goose Up
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
) WITHOUT ROWID;
CREATE INDEX rows_listed ON rows (kind, parent, sort, id);
CREATE INDEX rows_hot ON rows (kind) WHERE hot = 1;

CREATE TABLE site (
  name  TEXT    PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO site VALUES ('rev', 0), ('term', 0);

-- +goose Down
DROP TABLE rows;
DROP TABLE site;
