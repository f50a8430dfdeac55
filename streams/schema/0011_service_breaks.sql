-- When a service did not work for longer than 60 s: whoever replays history must not take that for silence of the pumps.

CREATE TABLE service_break (
    service      text NOT NULL,                  -- ingest | worker | notify | web
    deaf_from    timestamptz NOT NULL,           -- its last beat before
    resumed_at   timestamptz NOT NULL,           -- its first beat after
    PRIMARY KEY (service, resumed_at),
    CHECK (resumed_at > deaf_from)
);

GRANT SELECT, INSERT ON service_break TO pumpwatch_app;
