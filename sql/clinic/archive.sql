-- The clinic's past: 100,000 visits over the seven years before those of seed.sql.
--
-- The demo alone runs this, so that its page shows lists of a table that is too
-- long to be sent. Run it as a superuser, after seed.sql. A second run adds nothing.

-- Nobody is told of visits of long ago, and every row names a pet and what goes with
-- it: neither the clinic's triggers nor its foreign keys have anything to do.
set session_replication_role = replica;

-- Keys below 1, in order of time: no sequence comes there. Two visits begin at each
-- half hour of ten.
insert into public.reservations (reservation_id, pet_id, user_id, employee_id, service_id, starts_at, status)
select n - 100000, pet_id, user_id, 1 + n * 3 % 4, 1 + n * 5 % 12,
       date_trunc('day', now()) - interval '61 days'
           - (99999 - n) / 40 * interval '1 day'
           + (8 * 60 + n % 40 / 2 * 30) * interval '1 minute',
       (case when n % 31 = 0 then 'cancelled'
             when n % 47 = 0 then 'no_show'
             else                 'completed' end)::public.reservation_status
from generate_series(0, 99999) as n
join public.pets on pet_id = 1 + n * 13::bigint % 70
where not exists (select from public.reservations where reservation_id < 1)
order by n;

reset session_replication_role;

-- The order of the page's lists: of a table of this size an index has to serve it.
create index if not exists reservations_starts_at_idx on public.reservations (starts_at, reservation_id);

analyze public.reservations;
