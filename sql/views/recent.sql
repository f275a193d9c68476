-- rowcast.recent: the last hundred changes in the outbox, newest first.
create view rowcast.recent as
select o.id, o.at, coalesce(c.name, case when o.op = 'N' then 'user' end) as channel,
       case o.op when 'I' then 'created' when 'U' then 'updated' when 'D' then 'deleted' when 'T' then 'truncated'
                 when 'N' then 'notify' when 'P' then 'publish' when 'C' then 'channel changed' end as action,
       coalesce(o.new, o.old) as data, o.actor, o.users, o.xid as tx
  from rowcast.outbox o left join rowcast.channel c on c.id = o.channel
 where o.id > (select last_value from rowcast.outbox_id) - 1000
 order by o.id desc limit 100;
comment on view rowcast.recent is 'the last hundred changes';
