-- A registry as the first format wrote it: `sqlite3 registry.db .dump`.
BEGIN TRANSACTION;
CREATE TABLE alerts (
  id TEXT NOT NULL,
  at BIGINT NOT NULL,
  model TEXT NOT NULL,
  cause TEXT NOT NULL,
  todo TEXT NOT NULL,
  cost DOUBLE,
  evidence TEXT NOT NULL,
  resolved_at BIGINT,
  resolution TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE alias_changes (
  position INTEGER NOT NULL,
  model TEXT NOT NULL,
  alias TEXT NOT NULL,
  action TEXT NOT NULL,
  version TEXT NOT NULL,
  share DOUBLE NOT NULL,
  salt TEXT NOT NULL,
  reason TEXT NOT NULL,
  "by" TEXT NOT NULL,
  evidence TEXT NOT NULL,
  override TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (position),
  FOREIGN KEY(version) REFERENCES versions (name)
);
INSERT INTO "alias_changes" VALUES(1,'late','champion','set','late-1',1.0,'late-1/0','r','ann','{}','',7);
INSERT INTO "alias_changes" VALUES(2,'late','champion','set','late-2',1.0,'late-2/1','r','ann','{}','must',7);
CREATE TABLE decisions (
  id TEXT NOT NULL,
  at BIGINT NOT NULL,
  model TEXT NOT NULL,
  kind TEXT NOT NULL,
  version TEXT NOT NULL,
  reason TEXT NOT NULL,
  evidence TEXT NOT NULL,
  PRIMARY KEY (id)
);
INSERT INTO "decisions" VALUES('d',1,'late','promote','late-1','r','{}');
CREATE TABLE registry (
  format INTEGER NOT NULL,
  revision BIGINT NOT NULL,
  PRIMARY KEY (format)
);
INSERT INTO "registry" VALUES(1,5);
CREATE TABLE reviews (
  id TEXT NOT NULL,
  at BIGINT NOT NULL,
  prediction TEXT NOT NULL,
  model TEXT NOT NULL,
  decision TEXT NOT NULL,
  "by" TEXT NOT NULL,
  reason TEXT NOT NULL,
  answer DOUBLE,
  findings TEXT NOT NULL,
  until BIGINT NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE runs (
  id TEXT NOT NULL,
  kind TEXT NOT NULL,
  started_at BIGINT NOT NULL,
  finished_at BIGINT,
  status TEXT NOT NULL,
  details TEXT NOT NULL,
  PRIMARY KEY (id)
);
CREATE TABLE versions (
  name TEXT NOT NULL,
  model TEXT NOT NULL,
  number INTEGER NOT NULL,
  digest TEXT NOT NULL,
  snapshot TEXT NOT NULL,
  code TEXT NOT NULL,
  features TEXT NOT NULL,
  metrics TEXT NOT NULL,
  gates TEXT NOT NULL,
  ladder TEXT NOT NULL,
  trained_from BIGINT NOT NULL,
  trained_to BIGINT NOT NULL,
  reason TEXT NOT NULL,
  at BIGINT NOT NULL,
  PRIMARY KEY (name),
  UNIQUE (model, number),
  UNIQUE (model, digest)
);
INSERT INTO "versions" VALUES('late-1','late',1,'0000000000000000000000000000000000000000000000000000000000000001','s','c','F','{"auc":0.75}','[{"name":"parity","passed":true}]','{"winner":"linear"}',1,2,'first',7);
INSERT INTO "versions" VALUES('late-2','late',2,'0000000000000000000000000000000000000000000000000000000000000002','s','c','F','{"auc":0.75}','[{"name":"parity","passed":false}]','{"winner":"linear"}',1,2,'first',7);
COMMIT;
