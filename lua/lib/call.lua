-- Call: the places of a call's parts in the list that a batch lays out for it (lib/batch.lua). The list
-- has its full size at once, since tables that grow cost more than what is done with them. A call's cost
-- in a unit stands at CALL_COST + the unit's code: one slot of a concurrency, nothing in what no rule of
-- the batch counts. Some places are for what is found out about it: the key of its record and the record
-- as it is in Redis, the key of its ledger, its record or entry parsed, the call as JSON (false where
-- there is none). The numbers of its meters follow from CALL_METERS on.
local CALL_RECORD, CALL_TOKEN, CALL_PRIORITY, CALL_COST, CALL_STRICTNESS, CALL_ID, CALL_LEDGER = 1, 2, 3, 3, 12, 13, 14
local CALL_RECORD_KEY, CALL_OWN_RECORD, CALL_LEDGER_KEY, CALL_PARSED, CALL_JSON, CALL_METERS = 15, 16, 17, 18, 19, 20
