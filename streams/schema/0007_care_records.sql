-- What people know beside telemetry (streams/domain/care.py). One table, and it only grows: a record is added once and
-- may be withdrawn once, each a row in its pump's own hash chain. So what rules read is what the audit verifies.

CREATE TABLE care_record (
    entry_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    care_id        text NOT NULL,
    pump_id        text NOT NULL,
    change         text NOT NULL CHECK (change IN ('added', 'withdrawn')),
    record         jsonb,                        -- what was added
    reason         text,                         -- why it was withdrawn
    recorded_at    timestamptz NOT NULL,         -- of a withdrawal: from then on the record counts no more
    recorded_by    text NOT NULL,
    chain_id       text NOT NULL,                -- 'care/' and the pump id
    chain_position bigint NOT NULL,
    hash           bytea NOT NULL,
    UNIQUE (care_id, change),
    UNIQUE (chain_id, chain_position),
    CHECK ((change = 'added') = (record IS NOT NULL)),
    CHECK ((change = 'withdrawn') = (reason IS NOT NULL))
);
CREATE INDEX care_record_pump ON care_record (pump_id);

-- SECURITY DEFINER: the application cannot write audit_chain itself.
CREATE FUNCTION link_care_record() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_chain := chain_end('care/' || NEW.pump_id);
BEGIN
    -- ON CONFLICT DO NOTHING would move the chain without adding its row.
    IF EXISTS (SELECT FROM care_record WHERE care_id = NEW.care_id AND change = NEW.change) THEN
        RAISE unique_violation USING MESSAGE = format('care record %s is %s already', NEW.care_id, NEW.change);
    END IF;
    IF NEW.change = 'withdrawn' AND NOT EXISTS (
        SELECT FROM care_record WHERE care_id = NEW.care_id AND change = 'added' AND pump_id = NEW.pump_id) THEN
        RAISE foreign_key_violation USING MESSAGE = format('there is no care record %s of this pump', NEW.care_id);
    END IF;
    NEW.chain_id := last.chain_id;
    NEW.chain_position := last.length + 1;
    NEW.hash := sha256(last.head || chain_text(
        NEW.chain_id, NEW.chain_position::text, NEW.entry_id::text, NEW.care_id, NEW.pump_id, NEW.change,
        NEW.record::text, NEW.reason, chain_time(NEW.recorded_at), NEW.recorded_by));
    UPDATE audit_chain SET length = NEW.chain_position, head = NEW.hash WHERE chain_id = NEW.chain_id;
    RETURN NEW;
END $$;

CREATE TRIGGER link BEFORE INSERT ON care_record FOR EACH ROW EXECUTE FUNCTION link_care_record();
CREATE TRIGGER keep_rows BEFORE UPDATE OR DELETE ON care_record FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_all BEFORE TRUNCATE ON care_record FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
ALTER TABLE care_record ENABLE ALWAYS TRIGGER link, ENABLE ALWAYS TRIGGER keep_rows, ENABLE ALWAYS TRIGGER keep_all;

-- Workers forget the pump, as they do when its profile changes.
CREATE TRIGGER announce AFTER INSERT ON care_record
    FOR EACH ROW EXECUTE FUNCTION announce_pump('pumpwatch_profiles');

CREATE VIEW v_care_record AS
SELECT added.care_id, added.pump_id,
       record->>'kind' AS kind,
       (record->>'valid_from')::timestamptz AS valid_from,
       (record->>'valid_until')::timestamptz AS valid_until,
       record->>'person' AS person,
       record->>'reason' AS reason,
       (record->>'booked_on')::date AS booked_on,
       record->>'session_id' AS session_id,
       record->>'rule_id' AS rule_id,
       record->>'parameter' AS parameter,
       (record->>'value')::double precision AS value,
       added.recorded_at, added.recorded_by,
       withdrawn.recorded_at AS withdrawn_at, withdrawn.recorded_by AS withdrawn_by,
       withdrawn.reason AS withdrawal_reason
FROM (SELECT * FROM care_record WHERE change = 'added') AS added
LEFT JOIN (SELECT care_id, reason, recorded_at, recorded_by FROM care_record WHERE change = 'withdrawn') AS withdrawn
    USING (care_id);

REVOKE ALL ON FUNCTION link_care_record() FROM PUBLIC;
GRANT SELECT, INSERT ON care_record TO pumpwatch_app;
GRANT SELECT ON v_care_record TO pumpwatch_app, pumpwatch_read;

-- The step of the ladder that is due at once when the alert is raised, with those before it.
ALTER TABLE alert ADD COLUMN start_step smallint NOT NULL DEFAULT 0;
