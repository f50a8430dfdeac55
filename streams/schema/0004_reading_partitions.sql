-- Readings are kept in weeks (Monday to Monday, UTC). The application may not create or drop tables; it may call this.

-- Makes the weeks that accepted reports can fall into, drops those that are older than keep_days, and says what it did.
--
-- A worker with a wrong clock cannot delete: nothing younger than keep_days by the server's clock is dropped, and
-- keep_days is at least 30. lock_timeout: rather try again in an hour than let readers stop the writers.
CREATE FUNCTION maintain_readings(at timestamptz, keep_days integer) RETURNS TABLE (made integer, dropped integer)
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp SET timezone = 'UTC' SET lock_timeout = '2s' AS $$
DECLARE
    oldest timestamptz := least(at, clock_timestamp()) - make_interval(days => keep_days);
    week timestamptz;
    part record;
BEGIN
    IF keep_days < 30 THEN
        RAISE invalid_parameter_value USING MESSAGE = format('readings are kept for at least 30 days, not %s', keep_days);
    END IF;
    made := 0;
    dropped := 0;
    IF NOT pg_try_advisory_xact_lock(hashtext('maintain_readings')) THEN
        RETURN NEXT;
        RETURN;
    END IF;
    FOR week IN SELECT generate_series(date_trunc('week', at - make_interval(days => keep_days)), at + '14 days', '7 days')
    LOOP
        CONTINUE WHEN to_regclass(format('public.reading_%s', to_char(week, 'YYYYMMDD'))) IS NOT NULL;
        CONTINUE WHEN week + interval '7 days' <= oldest;
        -- Made apart and then attached: attaching lets others go on writing to the other weeks. Readings that came
        -- before their week was made wait in the default partition, and would keep the week out.
        LOCK TABLE public.reading_default IN ACCESS EXCLUSIVE MODE;
        EXECUTE format('CREATE TABLE public.reading_%s (LIKE public.reading INCLUDING ALL)', to_char(week, 'YYYYMMDD'));
        EXECUTE format(
            'WITH moved AS (DELETE FROM public.reading_default WHERE event_time >= %L AND event_time < %L RETURNING *) '
            'INSERT INTO public.reading_%s SELECT * FROM moved', week, week + interval '7 days', to_char(week, 'YYYYMMDD'));
        EXECUTE format('ALTER TABLE public.reading ATTACH PARTITION public.reading_%s FOR VALUES FROM (%L) TO (%L)',
                       to_char(week, 'YYYYMMDD'), week, week + interval '7 days');
        made := made + 1;
    END LOOP;
    FOR part IN
        SELECT relid::regclass AS name, to_date(right(relid::regclass::text, 8), 'YYYYMMDD') AS week
        FROM pg_partition_tree('public.reading') WHERE isleaf AND relid::regclass::text ~ '^reading_[0-9]{8}$'
    LOOP
        CONTINUE WHEN part.week + 7 > oldest;
        EXECUTE format('DROP TABLE %s', part.name);
        dropped := dropped + 1;
    END LOOP;
    RETURN NEXT;
END $$;

-- How many readings lie outside every week: none, unless maintenance has not run for two weeks.
CREATE FUNCTION stray_readings() RETURNS bigint LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = pg_catalog, public, pg_temp AS $$
    SELECT count(*) FROM (SELECT FROM reading_default LIMIT 100000) AS counted
$$;

SELECT maintain_readings(now(), 400);
