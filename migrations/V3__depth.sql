-- How deep in triggers a change was captured: what order inside a transaction is told by. Frozen once released.

-- What a trigger of the application changes is captured when its own statement ends, at a greater depth and before rows
-- that the statement outside has changed already. A change that no trigger made has null, which takes no room.
alter table rowcast.outbox add column depth int;
comment on column rowcast.outbox.depth is 'how many triggers were running, one inside the other, where more than the one that captured it; null: no other';
