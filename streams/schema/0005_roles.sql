-- Who may do what. pumpwatch_migrator owns; pumpwatch_app works with rows but changes no tables and no history;
-- pumpwatch_read sees the views and nothing else.

REVOKE ALL ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC;

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO pumpwatch_app;
REVOKE UPDATE, DELETE ON alert_event, pump_profile_change, reading, quarantine FROM pumpwatch_app;
REVOKE DELETE ON alert, pump_profile, pump_state, consumed, person, gateway FROM pumpwatch_app;
REVOKE INSERT, UPDATE, DELETE ON audit_chain, schema_migration FROM pumpwatch_app;
REVOKE INSERT, UPDATE, DELETE ON v_reading, v_alert, v_alert_event, v_notification, v_pump, v_heartbeat
    FROM pumpwatch_app;
GRANT EXECUTE ON FUNCTION maintain_readings(timestamptz, integer), stray_readings(), check_written(boolean, boolean)
    TO pumpwatch_app;

GRANT SELECT ON v_reading, v_alert, v_alert_event, v_notification, v_pump, v_heartbeat TO pumpwatch_read;

-- Each week is a table of its own, which the grants above also met; rows reach it through its parent only.
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT relid FROM pg_partition_tree('public.reading') WHERE isleaf LOOP
        EXECUTE format('REVOKE ALL ON %s FROM pumpwatch_app', part);
    END LOOP;
END $$;
