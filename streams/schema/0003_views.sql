-- The stable contract for Grafana and analysts: names and meanings here do not change with the tables behind them.

CREATE VIEW v_reading AS
SELECT pump_id, boot_id, seq, event_time, gateway_id, gateway_time, received_at, motor, alarms, reservoir_estimated_ml,
       reservoir_measured_ml, flow_programmed_ml_per_day, volume_programmed_ml, volume_delivered_ml,
       temperature_celsius, battery_voltage_v, battery_eri, battery_eos, emi_level, emi_count, flow_valve,
       program_checksum, events
FROM reading;

CREATE VIEW v_alert AS
SELECT alert_id, number, pump_id, site, rule_id, rule_hash, priority, active, latched, effective_from, effective_to,
       opened_at, cleared_at, resolved_at, confirmed_by, confirmed_at, found_late, retracted, parent_id, reason
FROM alert;

CREATE VIEW v_alert_event AS
SELECT alert_id, kind, effective_at, recorded_at, actor, reason, detail FROM alert_event;

CREATE VIEW v_notification AS
SELECT alert_id, step, channel, person, state, repeat, reason, queued_at, sent_at, delivered_at, seen_at, confirmed_at
FROM notification;

-- Pumps with a profile that never reported, and pumps that report without a profile, are both there.
CREATE VIEW v_pump AS
WITH in_force AS (
    SELECT DISTINCT ON (pump_id) pump_id, site, valid_from, profile
    FROM pump_profile WHERE valid_from <= now() ORDER BY pump_id, valid_from DESC
), known AS (
    SELECT pump_id FROM pump_profile UNION SELECT pump_id FROM pump_state
)
SELECT known.pump_id,
       coalesce(in_force.site, pump_state.site) AS site,
       in_force.valid_from,
       profile->>'family' AS family,
       (profile->>'reservoir_ml')::integer AS reservoir_ml,
       profile->'drugs' AS drugs,
       (profile->>'prescribed_ug_per_day')::double precision AS prescribed_ug_per_day,
       profile->'risks' AS risks,
       (profile->>'expected_interval_seconds')::integer AS expected_interval_seconds,
       (profile->>'implanted_on')::date AS implanted_on,
       (profile->>'titration_until')::date AS titration_until,
       (profile->>'refill_booked_on')::date AS refill_booked_on,
       (profile->>'replacement_booked_on')::date AS replacement_booked_on,
       (profile->>'low_reservoir_ml')::double precision AS low_reservoir_ml,
       (profile->>'max_bolus_ml_per_day')::double precision AS max_bolus_ml_per_day,
       (profile->>'bolus_lockout_minutes')::integer AS bolus_lockout_minutes,
       (profile->>'bolus_max_per_day')::integer AS bolus_max_per_day,
       (profile->>'last_fill_ml')::double precision AS last_fill_ml,
       last_event_time, last_received_at, motor, reservoir_estimated_ml, reservoir_measured_ml,
       last_confirmed_delivery_at, predicted_empty_at,
       (SELECT count(*) FROM alert
        WHERE alert.pump_id = known.pump_id AND resolved_at IS NULL AND NOT retracted) AS open_alerts
FROM known
LEFT JOIN in_force USING (pump_id)
LEFT JOIN pump_state USING (pump_id);

CREATE VIEW v_heartbeat AS
SELECT service, instance, beat_at, resumed_at FROM service_heartbeat;
