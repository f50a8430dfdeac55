-- History is append-only, and every row carries the hash of the row before it (promise G8). streams/audit.py computes
-- the same hashes again, so the text that is hashed is part of the contract: fields in the order below, each as its
-- length in bytes, a colon and its UTF-8 text, joined by commas; "-" where there is none.

CREATE FUNCTION chain_text(VARIADIC fields text[]) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
SET search_path = pg_catalog AS $$
    SELECT convert_to(string_agg(coalesce(octet_length(field) || ':' || field, '-'), ',' ORDER BY place), 'UTF8')
    FROM unnest(fields) WITH ORDINALITY AS given (field, place)
$$;

CREATE FUNCTION chain_time(moment timestamptz) RETURNS text LANGUAGE sql STABLE PARALLEL SAFE
SET search_path = pg_catalog AS $$
    SELECT to_char(moment AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
$$;

-- Locks the end of a chain until the transaction ends, so that its rows have one order.
CREATE FUNCTION chain_end(chain text) RETURNS audit_chain LANGUAGE plpgsql
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    chain_now audit_chain;
BEGIN
    SELECT * INTO chain_now FROM audit_chain WHERE chain_id = chain FOR UPDATE;
    IF NOT FOUND THEN
        INSERT INTO audit_chain (chain_id, length, head) VALUES (chain, 0, '') ON CONFLICT DO NOTHING;
        SELECT * INTO STRICT chain_now FROM audit_chain WHERE chain_id = chain FOR UPDATE;
    END IF;
    RETURN chain_now;
END $$;

-- SECURITY DEFINER: the application cannot write audit_chain itself.
CREATE FUNCTION link_alert_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_chain := chain_end(coalesce(NEW.pump_id, 'system'));
BEGIN
    -- ON CONFLICT DO NOTHING would move the chain without adding its row.
    IF EXISTS (SELECT FROM alert_event WHERE event_id = NEW.event_id) THEN
        RAISE unique_violation USING MESSAGE = format('alert event %s is already in history', NEW.event_id);
    END IF;
    NEW.chain_id := last.chain_id;
    NEW.chain_position := last.length + 1;
    NEW.hash := sha256(last.head || chain_text(
        NEW.chain_id, NEW.chain_position::text, NEW.event_id::text, NEW.alert_id::text, NEW.pump_id, NEW.kind,
        chain_time(NEW.effective_at), chain_time(NEW.recorded_at), NEW.actor, NEW.reason, NEW.detail::text));
    UPDATE audit_chain SET length = NEW.chain_position, head = NEW.hash WHERE chain_id = NEW.chain_id;
    RETURN NEW;
END $$;

CREATE FUNCTION link_profile_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
DECLARE
    last audit_chain := chain_end('profile/' || NEW.pump_id);
BEGIN
    NEW.chain_id := last.chain_id;
    NEW.chain_position := last.length + 1;
    NEW.hash := sha256(last.head || chain_text(
        NEW.chain_id, NEW.chain_position::text, NEW.change_id::text, NEW.pump_id, NEW.site, chain_time(NEW.valid_from),
        NEW.profile::text, chain_time(NEW.recorded_at), NEW.recorded_by));
    UPDATE audit_chain SET length = NEW.chain_position, head = NEW.hash WHERE chain_id = NEW.chain_id;
    RETURN NEW;
END $$;

CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE insufficient_privilege USING MESSAGE = format('%s is append-only: %s refused', TG_TABLE_NAME, TG_OP);
END $$;

CREATE TRIGGER link BEFORE INSERT ON alert_event FOR EACH ROW EXECUTE FUNCTION link_alert_event();
CREATE TRIGGER keep_rows BEFORE UPDATE OR DELETE ON alert_event FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_all BEFORE TRUNCATE ON alert_event FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();
CREATE TRIGGER link BEFORE INSERT ON pump_profile_change FOR EACH ROW EXECUTE FUNCTION link_profile_change();
CREATE TRIGGER keep_rows BEFORE UPDATE OR DELETE ON pump_profile_change FOR EACH ROW EXECUTE FUNCTION refuse_change();
CREATE TRIGGER keep_all BEFORE TRUNCATE ON pump_profile_change FOR EACH STATEMENT EXECUTE FUNCTION refuse_change();

-- ALWAYS: also where session_replication_role would switch ordinary triggers off.
ALTER TABLE alert_event ENABLE ALWAYS TRIGGER link, ENABLE ALWAYS TRIGGER keep_rows, ENABLE ALWAYS TRIGGER keep_all;
ALTER TABLE pump_profile_change
    ENABLE ALWAYS TRIGGER link, ENABLE ALWAYS TRIGGER keep_rows, ENABLE ALWAYS TRIGGER keep_all;

-- Who waits for news hears of it at commit, whoever wrote it. A notice may be lost: listeners also look by themselves.
CREATE FUNCTION announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], '');
    RETURN NULL;
END $$;

CREATE FUNCTION announce_pump() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify(TG_ARGV[0], NEW.pump_id);
    RETURN NULL;
END $$;

CREATE TRIGGER announce AFTER INSERT ON outbox FOR EACH STATEMENT EXECUTE FUNCTION announce('pumpwatch_outbox');
CREATE TRIGGER announce AFTER INSERT OR UPDATE OR DELETE ON gateway
    FOR EACH STATEMENT EXECUTE FUNCTION announce('pumpwatch_gateways');
CREATE TRIGGER announce AFTER INSERT OR UPDATE ON pump_profile
    FOR EACH ROW EXECUTE FUNCTION announce_pump('pumpwatch_profiles');

-- Ends a statement that would write half of what belongs together. The codes are known to streams/store.py.
CREATE FUNCTION check_written(fence_holds boolean, worlds_fit boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT fence_holds THEN
        RAISE 'the partition''s offset is not the expected one' USING ERRCODE = 'PW001';
    END IF;
    IF NOT worlds_fit THEN
        RAISE 'a pump was changed since it was read' USING ERRCODE = 'PW002';
    END IF;
END $$;
