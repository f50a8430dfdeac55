-- The whole clinical store. Times are timestamptz; every clinical fact is written in the transaction that also moves the
-- consumed offset. The role pumpwatch_migrator owns everything here; who may do what stands in 0005_roles.sql.

CREATE TYPE priority AS ENUM ('info', 'low', 'medium', 'high');

-- Gateways ---------------------------------------------------------------------------------------------------------
CREATE TABLE gateway (
    gateway_id   text PRIMARY KEY,
    kind         text NOT NULL CHECK (kind IN ('home', 'clinic')),
    token_hash   bytea NOT NULL UNIQUE,          -- SHA-256 of a 256-bit random token
    created_at   timestamptz NOT NULL DEFAULT now(),
    revoked_at   timestamptz
);

-- People -----------------------------------------------------------------------------------------------------------
CREATE TABLE person (
    person_id     text PRIMARY KEY,              -- sign-in name, shown as the NAME in "confirmed by NAME"
    display_name  text NOT NULL,
    password_hash text NOT NULL,                 -- argon2id
    email         text,
    webhook_url   text,
    webhook_secret text,                         -- Standard Webhooks secret (whsec_...)
    ladder_role   text CHECK (ladder_role IN ('primary', 'backup', 'physician', 'site_lead')),
    site          text,                          -- NULL: every site
    created_at    timestamptz NOT NULL DEFAULT now(),
    disabled_at   timestamptz
);

CREATE TABLE web_session (
    session_hash  bytea PRIMARY KEY,             -- SHA-256 of the cookie's token
    person_id     text NOT NULL REFERENCES person,
    csrf_token    text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz
);

-- Sites ------------------------------------------------------------------------------------------------------------
CREATE TABLE site (                              -- only those that differ from the default
    site      text PRIMARY KEY,
    time_zone text NOT NULL                      -- an IANA name; a site that is not listed is on UTC
);

-- Pumps ------------------------------------------------------------------------------------------------------------
CREATE TABLE pump_profile (
    pump_id      text NOT NULL,
    valid_from   timestamptz NOT NULL,
    site         text NOT NULL,
    profile      jsonb NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    recorded_by  text NOT NULL,
    PRIMARY KEY (pump_id, valid_from)
);

CREATE TABLE pump_profile_change (               -- append-only audit of the profiles, in a hash chain of its own
    change_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pump_id      text NOT NULL,
    valid_from   timestamptz NOT NULL,
    site         text NOT NULL,
    profile      jsonb NOT NULL,
    recorded_at  timestamptz NOT NULL DEFAULT now(),
    recorded_by  text NOT NULL,
    chain_id     text NOT NULL,
    chain_position bigint NOT NULL,
    hash         bytea NOT NULL,
    UNIQUE (chain_id, chain_position)
);

CREATE TABLE pump_state (
    pump_id            text PRIMARY KEY,
    kafka_partition    smallint NOT NULL,
    revision           bigint NOT NULL,          -- every writer checks and raises it: stale caches cannot win
    next_wake_at       timestamptz,              -- never later than the true next deadline
    world              bytea,                    -- msgpack of streams.domain.world.World
    site               text,
    last_event_time    timestamptz,
    last_received_at   timestamptz,
    motor              text,
    reservoir_estimated_ml     double precision,
    reservoir_measured_ml      double precision,
    last_confirmed_delivery_at timestamptz,
    predicted_empty_at         timestamptz
) WITH (fillfactor = 50);
ALTER TABLE pump_state ALTER COLUMN world SET STORAGE EXTERNAL;
CREATE INDEX pump_state_wake ON pump_state (kafka_partition, next_wake_at) WHERE next_wake_at IS NOT NULL;

-- History ----------------------------------------------------------------------------------------------------------
CREATE TABLE reading (
    pump_id                    text NOT NULL,
    event_time                 timestamptz NOT NULL,
    boot_id                    bigint NOT NULL,
    seq                        bigint NOT NULL,
    gateway_id                 text NOT NULL,
    gateway_time               timestamptz NOT NULL,
    received_at                timestamptz NOT NULL,
    content_hash               bytea NOT NULL,
    motor                      text,
    alarms                     text[],
    reservoir_estimated_ml     double precision,
    reservoir_measured_ml      double precision,
    flow_programmed_ml_per_day double precision,
    volume_programmed_ml       double precision,
    volume_delivered_ml        double precision,
    temperature_celsius        double precision,
    battery_voltage_v          double precision,
    battery_eri                boolean,
    battery_eos                boolean,
    emi_level                  text,
    emi_count                  bigint,
    flow_valve                 text,
    program_checksum           text,
    events                     jsonb,
    -- The identity first: it answers "seen before?", and within a week a pump's reports lie in order of time anyway.
    PRIMARY KEY (pump_id, boot_id, seq, event_time)
) PARTITION BY RANGE (event_time);
CREATE TABLE reading_default PARTITION OF reading DEFAULT;

CREATE TABLE quarantine (                        -- accepted, kept, never applied (catalogue M.18, M.32)
    quarantine_id  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    pump_id        text NOT NULL,
    boot_id        bigint NOT NULL,
    seq            bigint NOT NULL,
    reason         text NOT NULL,
    report         bytea NOT NULL,               -- msgpack of Received
    received_at    timestamptz NOT NULL,
    recorded_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (pump_id, boot_id, seq, reason, report)
);

-- Alerts -----------------------------------------------------------------------------------------------------------
CREATE TABLE alert (                             -- the projection of alert_event; never the truth by itself
    alert_id        uuid PRIMARY KEY,
    number          bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    pump_id         text,
    site            text,
    rule_id         text NOT NULL,
    rule_hash       text NOT NULL,
    ladder          text NOT NULL CHECK (ladder IN ('H', 'M', 'L', 'none')),
    priority        priority NOT NULL,           -- the highest reached
    active          boolean NOT NULL,            -- the condition holds now
    latched         boolean NOT NULL,            -- stays open until a person resolves it
    effective_from  timestamptz NOT NULL,
    effective_to    timestamptz,
    opened_at       timestamptz NOT NULL,
    raised_at       timestamptz NOT NULL,        -- last opening, escalation or re-raise: ladder steps count from here
    cleared_at      timestamptz,
    resolved_at     timestamptz,                 -- NULL = open
    confirmed_by    text,
    confirmed_at    timestamptz,
    found_late      boolean NOT NULL DEFAULT false,
    retracted       boolean NOT NULL DEFAULT false,
    parent_id       uuid,
    physician_by    timestamptz,                 -- ladder step 3 at the latest here, confirmed or not
    recurrences     integer NOT NULL DEFAULT 0,
    reason          text NOT NULL,
    message         text NOT NULL,
    revision        bigint NOT NULL DEFAULT 1
);
CREATE INDEX alert_open ON alert (pump_id) WHERE resolved_at IS NULL AND NOT retracted;
CREATE INDEX alert_recent ON alert (opened_at);

CREATE TABLE audit_chain (
    chain_id  text PRIMARY KEY,                  -- a pump id, 'system', or 'profile/' and a pump id
    length    bigint NOT NULL,
    head      bytea NOT NULL
);

CREATE TABLE alert_event (                       -- append-only; a trigger links each row into its pump's hash chain
    event_id      uuid PRIMARY KEY,
    alert_id      uuid NOT NULL,
    pump_id       text,
    kind          text NOT NULL CHECK (kind IN ('opened', 'escalated', 'recurred', 're_raised', 'acknowledged', 'cleared',
                                                'resolved', 'amended', 'retracted')),
    effective_at  timestamptz NOT NULL,          -- when it was so (event time)
    recorded_at   timestamptz NOT NULL,          -- when we knew (service time)
    actor         text NOT NULL,                 -- 'pumpwatch' or a person's id
    reason        text NOT NULL,
    detail        jsonb NOT NULL DEFAULT '{}',
    chain_id      text NOT NULL,
    chain_position bigint NOT NULL,
    hash          bytea NOT NULL,
    UNIQUE (chain_id, chain_position)
);
CREATE INDEX alert_event_alert ON alert_event (alert_id);

-- Notification -----------------------------------------------------------------------------------------------------
CREATE TABLE outbox (                            -- written with the alert event; emptied by services/notify
    outbox_id    bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    alert_id     uuid NOT NULL,
    pump_id      text,
    event_id     uuid NOT NULL,
    kind         text NOT NULL,
    received_at  timestamptz,                    -- when the report behind it was accepted, for the latency histogram
    created_at   timestamptz NOT NULL DEFAULT now(),
    published_at timestamptz,                    -- sent to pump.alerts.v1
    handled_at   timestamptz                     -- the ladder has taken it over
);
CREATE INDEX outbox_unhandled ON outbox (outbox_id) WHERE handled_at IS NULL;
CREATE INDEX outbox_unpublished ON outbox (outbox_id) WHERE published_at IS NULL;

CREATE TABLE ladder (                            -- one row per alert that people are being told about
    alert_id     uuid PRIMARY KEY,
    ladder       text NOT NULL,
    started_at   timestamptz NOT NULL,
    next_step    smallint NOT NULL DEFAULT 0,
    next_step_at timestamptz,                    -- NULL: nothing more to do until the alert changes
    ended_at     timestamptz,
    ended_reason text
);
CREATE INDEX ladder_due ON ladder (next_step_at) WHERE next_step_at IS NOT NULL;

CREATE TABLE notification (
    notification_id uuid PRIMARY KEY,            -- also the idempotency key given to the channel
    alert_id     uuid NOT NULL,
    step         smallint NOT NULL,
    channel      text NOT NULL CHECK (channel IN ('email', 'webhook', 'worklist')),
    person       text NOT NULL,
    state        text NOT NULL CHECK (state IN ('queued', 'sending', 'sent', 'delivered', 'seen', 'confirmed', 'failed', 'superseded')),
    repeat       boolean NOT NULL DEFAULT false, -- "possible repeat": the first try's outcome is unknown
    reason       text NOT NULL,
    attempts     smallint NOT NULL DEFAULT 0,
    next_try_at  timestamptz,
    accepted_at  timestamptz,                    -- when the report that it is the first answer to was accepted
    queued_at    timestamptz NOT NULL DEFAULT now(),
    first_attempt_at timestamptz,
    sent_at      timestamptz,
    delivered_at timestamptz,
    seen_at      timestamptz,
    confirmed_at timestamptz,
    last_error   text
);
CREATE INDEX notification_due ON notification (next_try_at) WHERE state IN ('queued', 'sending');
CREATE INDEX notification_alert ON notification (alert_id);

-- The commit point -------------------------------------------------------------------------------------------------
CREATE TABLE consumed (
    topic        text NOT NULL,
    partition    integer NOT NULL,
    next_offset  bigint NOT NULL,
    topic_id     text,                           -- a recreated topic is noticed
    updated_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (topic, partition)
);

CREATE TABLE dead_letter_limit (                 -- per partition, so that a restart does not forget it
    topic        text NOT NULL,
    partition    integer NOT NULL,
    consecutive  bigint NOT NULL,
    PRIMARY KEY (topic, partition)
);

CREATE TABLE service_heartbeat (
    service      text NOT NULL,                  -- ingest | worker | notify | web
    instance     text NOT NULL,
    beat_at      timestamptz NOT NULL,
    resumed_at   timestamptz NOT NULL,           -- end of the last break longer than 60 s (catalogue I7)
    PRIMARY KEY (service, instance)
);
