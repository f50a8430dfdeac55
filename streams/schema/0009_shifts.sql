-- When people are on call. Somebody without any shift always is.

CREATE TABLE shift (
    shift_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    person_id    text NOT NULL REFERENCES person,
    starts_at    timestamptz NOT NULL,           -- service time, inclusive
    ends_at      timestamptz NOT NULL,           -- exclusive
    withdrawn_at timestamptz,
    CHECK (ends_at > starts_at)
);
CREATE INDEX shift_person ON shift (person_id, ends_at) WHERE withdrawn_at IS NULL;

GRANT SELECT, INSERT, UPDATE ON shift TO pumpwatch_app;
