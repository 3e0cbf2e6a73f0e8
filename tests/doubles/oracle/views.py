"""Oracle's data dictionary and V$ views over the double's own tables: SQL for a connection's temporary views."""

from __future__ import annotations

CURRENT_END = "18446744073709551615"  # NEXT_CHANGE# of a log that is still written; more than 64 bits with a sign

VIEWS = {
    "V$DATABASE": """
        SELECT 'ORCL' NAME, 'orcl' DB_UNIQUE_NAME, 1 DBID, (SELECT scn FROM clock) CURRENT_SCN, 'READ WRITE' OPEN_MODE,
            coalesce((SELECT value FROM setting WHERE name = 'log_mode'), 'ARCHIVELOG') LOG_MODE, 1 "RESETLOGS_CHANGE#",
            '2026-01-01 00:00:00' RESETLOGS_TIME, 'PRIMARY' DATABASE_ROLE,
            CASE WHEN EXISTS (SELECT 1 FROM setting WHERE name = 'pdb') THEN 'YES' ELSE 'NO' END CDB,
            coalesce((SELECT value FROM setting WHERE name = 'supplemental'), 'YES') SUPPLEMENTAL_LOG_DATA_MIN,
            'NO' SUPPLEMENTAL_LOG_DATA_ALL, 'NO' SUPPLEMENTAL_LOG_DATA_PK, 'NO' FORCE_LOGGING, 'ORCL' PLATFORM_NAME""",
    "V$INSTANCE": """SELECT 1 INSTANCE_NUMBER, 'orcl1' INSTANCE_NAME, '19.0.0.0.0' VERSION, '19.22.0.0.0' VERSION_FULL,
        'OPEN' STATUS, 1 "THREAD#", (SELECT CASE WHEN count(*) > 1 THEN 'YES' ELSE 'NO' END FROM thread) PARALLEL""",
    "V$VERSION": "SELECT 'Oracle Database 19c Enterprise Edition Release 19.0.0.0.0 - Production' BANNER",
    "PRODUCT_COMPONENT_VERSION": "SELECT 'Oracle Database' PRODUCT, '19.0.0.0.0' VERSION, '19.22.0.0.0' VERSION_FULL",
    "V$THREAD": """
        SELECT number "THREAD#", 'OPEN' STATUS, 'PUBLIC' ENABLED, 'orcl' || number INSTANCE,
            CASE WHEN frozen THEN last_redo ELSE (SELECT scn FROM clock) END "LAST_REDO_CHANGE#",
            (SELECT max(sequence) FROM log WHERE thread = number) "SEQUENCE#", 900 "ENABLE_CHANGE#" FROM thread""",
    "V$LOG": f"""
        SELECT grp "GROUP#", thread "THREAD#", sequence "SEQUENCE#", 209715200 BYTES, 512 BLOCKSIZE, 1 MEMBERS,
            CASE WHEN archived THEN 'YES' ELSE 'NO' END ARCHIVED,
            CASE WHEN next_change IS NULL THEN 'CURRENT' WHEN archived THEN 'INACTIVE' ELSE 'ACTIVE' END STATUS,
            first_change "FIRST_CHANGE#", coalesce(next_change, '{CURRENT_END}') "NEXT_CHANGE#",
            '2026-01-01 00:00:00' FIRST_TIME
        FROM log l WHERE sequence = (SELECT max(sequence) FROM log o WHERE o.thread = l.thread AND o.grp = l.grp)""",
    "V$LOGFILE": """SELECT DISTINCT grp "GROUP#", 'redo' || grp || '.log' MEMBER, 'ONLINE' TYPE, NULL STATUS,
        'NO' IS_RECOVERY_DEST_FILE FROM log""",
    "V$ARCHIVED_LOG": """
        SELECT CASE WHEN purged THEN NULL ELSE 'arch_' || thread || '_' || sequence || '.arc' END NAME,
            thread "THREAD#", sequence "SEQUENCE#", first_change "FIRST_CHANGE#", next_change "NEXT_CHANGE#",
            'YES' ARCHIVED, CASE WHEN purged THEN 'YES' ELSE 'NO' END DELETED, 1000 BLOCKS, 512 BLOCK_SIZE, 1 DEST_ID,
            CASE WHEN purged THEN 'D' ELSE 'A' END STATUS, 'NO' STANDBY_DEST, 1 "RESETLOGS_CHANGE#",
            '2026-01-01 00:00:00' RESETLOGS_TIME, '2026-01-01 00:00:00' FIRST_TIME, '2026-01-01 00:00:00' NEXT_TIME,
            'NO' DICTIONARY_BEGIN, 'NO' DICTIONARY_END, 'ARCH' CREATOR, 'ARCH' REGISTRAR FROM log WHERE archived""",
    "V$ARCHIVE_DEST_STATUS": """SELECT 1 DEST_ID, 'LOG_ARCHIVE_DEST_1' DEST_NAME, 'VALID' STATUS, 'LOCAL' TYPE""",
    "V$ARCHIVE_DEST": """SELECT 1 DEST_ID, 'LOG_ARCHIVE_DEST_1' DEST_NAME, 'VALID' STATUS, 'PRIMARY' TARGET""",
    "V$LOG_HISTORY": """SELECT thread "THREAD#", sequence "SEQUENCE#", first_change "FIRST_CHANGE#",
        next_change "NEXT_CHANGE#" FROM log WHERE next_change IS NOT NULL""",
    "GV$TRANSACTION": """SELECT thread INST_ID, xid XID, start_scn START_SCN, 'ACTIVE' STATUS, id "SES_ADDR"
        FROM txn WHERE NOT ended AND start_scn IS NOT NULL""",
    "V$TRANSACTION": """SELECT xid XID, start_scn START_SCN, 'ACTIVE' STATUS, id "SES_ADDR"
        FROM txn WHERE NOT ended AND start_scn IS NOT NULL AND thread = 1""",
    "V$PARAMETER": """SELECT column1 NAME, column2 VALUE FROM (VALUES ('undo_retention', '900'),
        ('max_string_size', 'EXTENDED'), ('compatible', '19.0.0'), ('db_block_size', '8192'))""",
    "NLS_DATABASE_PARAMETERS": """SELECT column1 PARAMETER, column2 VALUE FROM (VALUES
        ('NLS_CHARACTERSET', 'AL32UTF8'), ('NLS_NCHAR_CHARACTERSET', 'AL16UTF16'))""",
    "SESSION_PRIVS": """SELECT column1 PRIVILEGE FROM (VALUES ('CREATE SESSION'), ('LOGMINING'),
        ('FLASHBACK ANY TABLE'), ('SELECT ANY TRANSACTION'), ('SELECT ANY TABLE'), ('SET CONTAINER'))
        WHERE column1 NOT IN (SELECT value FROM setting WHERE name LIKE 'revoked %')""",
    "SESSION_ROLES": "SELECT column1 ROLE FROM (VALUES ('SELECT_CATALOG_ROLE'), ('EXECUTE_CATALOG_ROLE'))",
    "ALL_TABLES": """SELECT owner OWNER, name TABLE_NAME, 'VALID' STATUS, 'N' TEMPORARY, 'NO' NESTED, 'N' SECONDARY,
        NULL IOT_NAME, NULL IOT_TYPE, 'YES' LOGGING, 'NO' DROPPED, NULL CLUSTER_NAME,
        (SELECT value FROM setting s WHERE s.name = 'rows ' || tab.owner || '.' || tab.name) NUM_ROWS FROM tab""",
    "ALL_OBJECTS": """SELECT owner OWNER, name OBJECT_NAME, object OBJECT_ID, object DATA_OBJECT_ID,
        'TABLE' OBJECT_TYPE, 'VALID' STATUS,
        datetime('2026-01-01', ddl_scn || ' seconds') LAST_DDL_TIME, 'N' TEMPORARY, 'N' GENERATED FROM tab""",
    "ALL_TAB_COLS": """
        SELECT owner OWNER, tab TABLE_NAME, name COLUMN_NAME, data_type DATA_TYPE, length DATA_LENGTH,
            digits DATA_PRECISION, scale DATA_SCALE, nullable NULLABLE, place COLUMN_ID, place INTERNAL_COLUMN_ID,
            place SEGMENT_COLUMN_ID,
            char_length CHAR_LENGTH, 'C' CHAR_USED, NULL DATA_DEFAULT, NULL DATA_TYPE_OWNER, NULL DATA_TYPE_MOD,
            'NO' VIRTUAL_COLUMN, 'NO' HIDDEN_COLUMN, 'YES' USER_GENERATED FROM col""",
    "ALL_CONSTRAINTS": """SELECT DISTINCT owner OWNER, tab || '_PK' CONSTRAINT_NAME, 'P' CONSTRAINT_TYPE,
        tab TABLE_NAME, 'ENABLED' STATUS, owner INDEX_OWNER, tab || '_PK' INDEX_NAME, 'VALIDATED' VALIDATED
        FROM col WHERE key_place""",
    "ALL_CONS_COLUMNS": """SELECT owner OWNER, tab || '_PK' CONSTRAINT_NAME, tab TABLE_NAME, name COLUMN_NAME,
        key_place POSITION FROM col WHERE key_place""",
    "ALL_INDEXES": """SELECT DISTINCT owner OWNER, tab || '_PK' INDEX_NAME, owner TABLE_OWNER, tab TABLE_NAME,
        'UNIQUE' UNIQUENESS, 'NORMAL' INDEX_TYPE, 'VALID' STATUS FROM col WHERE key_place""",
    "ALL_IND_COLUMNS": """SELECT owner INDEX_OWNER, tab || '_PK' INDEX_NAME, owner TABLE_OWNER, tab TABLE_NAME,
        name COLUMN_NAME, key_place COLUMN_POSITION FROM col WHERE key_place""",
    "ALL_LOG_GROUPS": """SELECT owner OWNER, 'SYS_C' || object LOG_GROUP_NAME, name TABLE_NAME, logging LOG_GROUP_TYPE,
        'ALWAYS' ALWAYS, 'GENERATED NAME' GENERATED FROM tab WHERE logging IS NOT NULL""",
}
VIEWS["ALL_USERS"] = "SELECT DISTINCT owner USERNAME, 'N' ORACLE_MAINTAINED FROM tab UNION ALL SELECT 'SYS', 'Y'"
VIEWS["ALL_TAB_COLUMNS"] = VIEWS["ALL_TAB_COLS"]

ALIASES = {
    **{f"DBA_{name[4:]}": name for name in VIEWS if name.startswith("ALL_")},
    **{f"V_{name[1:]}": name for name in VIEWS if name.startswith("V$")},
    "GV_$TRANSACTION": "GV$TRANSACTION",
    "V_$LOGMNR_CONTENTS": "V$LOGMNR_CONTENTS",
}

# Types of columns that are not as SQLite's value: RAW is no text, and the dictionary's times are DATE.
TYPES = {
    "XID": "RAW(8)",
    "TIMESTAMP": "DATE",
    "START_TIMESTAMP": "DATE",
    "COMMIT_TIMESTAMP": "DATE",
    "RESETLOGS_TIME": "DATE",
    "LAST_DDL_TIME": "DATE",
    "FIRST_TIME": "DATE",
    "NEXT_TIME": "DATE",
    "NEXT_CHANGE#": "NUMBER",
}
