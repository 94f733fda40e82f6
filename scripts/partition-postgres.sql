-- Optional: the tables of coins in eight parts, by the hash of their key (docs/scale.md).
--
-- Run it once, while no process of the bank runs, after a first start has made the schema:
--     psql "$DSN" -v ON_ERROR_STOP=1 -f scripts/partition-postgres.sql
-- Rows that are there move along. Every claim stays one insert that is unique over all parts, because the key of each table
-- is what it is divided by. All of it happens, or nothing does.
DO $$
DECLARE
  parts CONSTANT integer := 8;
  divided record;
  index_sql text;
  indices text[];
BEGIN
  FOR divided IN SELECT * FROM (VALUES ('mint_proof', 'y'), ('mint_output', 'b_')) AS tables (name, key) LOOP
    IF (SELECT relkind FROM pg_class WHERE oid = divided.name::regclass) = 'p' THEN
      RAISE EXCEPTION '% is divided already', divided.name;
    END IF;
    SELECT array_agg(indexdef) INTO indices FROM pg_indexes
      WHERE schemaname = current_schema() AND tablename = divided.name AND indexname <> divided.name || '_pkey';
    EXECUTE format('ALTER TABLE %I RENAME TO %I', divided.name, divided.name || '_whole');
    EXECUTE format('ALTER TABLE %I RENAME CONSTRAINT %I TO %I', divided.name || '_whole', divided.name || '_pkey',
                   divided.name || '_whole_pkey');
    EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS, PRIMARY KEY (%I)) PARTITION BY HASH (%I)',
                   divided.name, divided.name || '_whole', divided.key, divided.key);
    FOR part IN 0 .. parts - 1 LOOP
      EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES WITH (MODULUS %s, REMAINDER %s)',
                     divided.name || '_' || part, divided.name, parts, part);
    END LOOP;
    EXECUTE format('INSERT INTO %I SELECT * FROM %I', divided.name, divided.name || '_whole');
    EXECUTE format('DROP TABLE %I', divided.name || '_whole');
    FOREACH index_sql IN ARRAY coalesce(indices, ARRAY[]::text[]) LOOP
      EXECUTE index_sql;
    END LOOP;
  END LOOP;
END $$;
