-- A day at the clinic: everything its old application does from morning to evening.
--
-- Every step opens with a comment that gives its weight and a short description.
-- The weight, from 1 to 20, says how often the step happens compared with the
-- others. A step is either one statement, or one transaction that says begin and
-- commit itself.
--
-- Run them as clinic_app, in any order, as often as you like. Every step picks its
-- own rows at random and does nothing when there is nothing to do. One session at a
-- time never fails; with several at once, a step can now and then meet a foreign key
-- (while the evening clears away) or a deadlock, and is rolled back.
--
-- Together the steps keep the clinic at its size: some 120 owners, 300 pets, 400
-- reservations, 300 invoices, 400 medical records, 500 lines of log and 500 of
-- inboxes at most, plus whatever has gathered since the last evening, and the
-- reservations of archive.sql, where that was run.
--
-- Where a transaction has to find again the rows it has just written, it asks for
-- those dated now(), since now() stands still from begin to commit. Where a row is
-- picked at random and then given random values, the pick is a subquery of its own:
-- in one and the same select, order by random() and random() are one number.


-- step 16 an owner books a visit
-- (no more than 150 visits are kept in the book, a vet on duty is preferred)
insert into reservations (pet_id, user_id, employee_id, service_id, starts_at, status)
select pet.pet_id, pet.user_id, vet.employee_id, service.service_id,
       date_trunc('day', now())
           + (1 + floor(random() * 21)) * interval '1 day'
           + (18 + floor(random() * 16)) * interval '30 minutes',
       'requested'
from (select pet_id, user_id from pets join users using (user_id)
      where active order by random() limit 1) as pet,
     (select employee_id from employees
      where role = 'veterinarian' order by on_duty desc, random() limit 1) as vet,
     (select service_id from services
      where active order by random() limit 1) as service
where (select count(*) from reservations
       where status in ('requested', 'confirmed', 'in_progress')) < 150;


-- step 14 reception confirms the request that has waited longest
update reservations
set status = 'confirmed'
where reservation_id = (
    select reservation_id from reservations
    where status = 'requested'
    order by reservation_id limit 1
    for update skip locked);


-- step 12 the next patient is called in
-- (there are eight consulting rooms, and an owner who is early does not wait)
update reservations
set status = 'in_progress',
    starts_at = least(starts_at, date_trunc('minute', now()))
where reservation_id = (
    select reservation_id from reservations
    where status = 'confirmed'
    order by starts_at limit 1
    for update skip locked)
  and (select count(*) from reservations where status = 'in_progress') < 8;


-- step 12 a visit ends: invoice, payment, and the reservation is completed
begin;

insert into invoices (user_id, reservation_id, total, status, issued_at)
select r.user_id, r.reservation_id, s.price, 'open', now()
from reservations as r
join services as s using (service_id)
where r.status = 'in_progress'
order by random() limit 1
for update of r skip locked;

insert into payments (invoice_id, amount, method, paid_at)
select invoice_id, total,
       (array['card', 'card', 'cash', 'insurance'])[1 + floor(random() * 4)::int], now()
from invoices
where issued_at = now() and status = 'open';

update invoices
set status = 'paid'
where issued_at = now() and status = 'open';

update reservations as r
set status = 'completed'
from invoices as i
where i.reservation_id = r.reservation_id and i.issued_at = now();

commit;


-- step 8 a patient in the consulting room is weighed
update pets as p
set weight_kg = least(usual.heaviest, greatest(usual.lightest,
                      round(p.weight_kg * (0.98 + 0.04 * random())::numeric, 2)))
from (values ('dog', 2.0, 60.0), ('cat', 2.5, 8.0), ('rabbit', 1.0, 4.0),
             ('guinea pig', 0.6, 1.4), ('parrot', 0.07, 0.6), ('tortoise', 0.5, 3.0)
     ) as usual (species, lightest, heaviest)
where usual.species = p.species
  and p.pet_id = (select pet_id from reservations
                  where status = 'in_progress' order by random() limit 1);


-- step 8 a vet writes down what was found
insert into medical_history (pet_id, employee_id, visit_date, diagnosis, treatment)
select r.pet_id, r.employee_id, current_date, finding.diagnosis, finding.treatment
from reservations as r
join services as s using (service_id)
join (values
    ('consultation', 'Ear infection, left',              'Drops twice a day for a week'),
    ('consultation', 'Mild gastroenteritis',             'Bland diet for five days'),
    ('consultation', 'Slight limp, right hind leg',      null),
    ('prevention',   'Healthy, fit for vaccination',     'Combined vaccine, next one in a year'),
    ('prevention',   'Fleas, light infestation',         'Spot-on treatment, repeat after four weeks'),
    ('diagnostics',  'Nothing abnormal found',           null),
    ('diagnostics',  'Kidney values at the upper limit', 'Renal diet, new blood panel in six weeks'),
    ('surgery',      'Operation without complications',  'Collar for ten days, then stitches out'),
    ('care',         'Tartar grade one',                 'Dental gel daily'),
    ('care',         'Overgrown claws',                  'Claws trimmed'),
    ('offer',        'In good health',                   'None needed')
) as finding (category, diagnosis, treatment) on finding.category = s.category
where r.status = 'in_progress'
order by random() limit 1;


-- step 4 a vet revises the treatment of a recent patient
update medical_history
set treatment = (array[
        'Continue unchanged for another week',
        'Reduce the dose by half, check in ten days',
        'Stop the medication, no further treatment',
        'Anti-inflammatory for five days with food',
        'Rest for two weeks, short walks only'])[1 + floor(random() * 5)::int]
where record_id = (
    select record_id
    from (select record_id from medical_history order by record_id desc limit 20) as recent
    order by random() limit 1);


-- step 4 an owner changes the telephone number, sometimes the password as well
update users
set phone = '+1 ' || (array['206', '303', '415', '512', '617'])[1 + floor(random() * 5)::int]
                  || ' 555 01' || lpad(floor(random() * 100)::text, 2, '0'),
    password_hash = case when random() < 0.3
                         then '$2b$12$' || substr(md5(random()::text) || md5(random()::text), 1, 53)
                         else password_hash end
where user_id = (select user_id from users where active order by random() limit 1);


-- step 2 an owner calls off a visit
update reservations
set status = 'cancelled'
where reservation_id = (
    select reservation_id from reservations
    where status in ('requested', 'confirmed')
    order by random() limit 1
    for update skip locked);


-- step 4 a sale over the counter, put on account because the card is declined
begin;

insert into invoices (user_id, total, status, issued_at)
select user_id, round((6 + random() * 60)::numeric, 2), 'open', now()
from (select user_id from users where active order by random() limit 1) as customer;

savepoint card;

insert into payments (invoice_id, amount, method, paid_at)
select invoice_id, total, 'card', now()
from invoices
where issued_at = now();

update invoices
set status = 'paid'
where issued_at = now();

rollback to savepoint card;

commit;


-- step 5 an owner pays an invoice that was still open, or what is left of it
begin;

insert into payments (invoice_id, amount, method, paid_at)
select i.invoice_id, i.total - so_far.paid, 'transfer', now()
from invoices as i,
     lateral (select coalesce(sum(amount), 0) as paid
              from payments where invoice_id = i.invoice_id) as so_far
where i.status = 'open' and so_far.paid < i.total
order by random() limit 1
for update of i skip locked;

update invoices as i
set status = 'paid'
from payments as p
where p.invoice_id = i.invoice_id and p.paid_at = now();

commit;


-- step 2 the bookkeeper corrects one payment and takes back another that bounced
begin;

update payments
set method = case method when 'cash' then 'card' else 'cash' end
where payment_id = (select payment_id from payments order by random() limit 1
                    for update skip locked);

delete from payments
where payment_id = (select payment_id from payments order by random() limit 1
                    for update skip locked);

update invoices as i
set status = 'open'
where i.status = 'paid'
  and i.total > (select coalesce(sum(amount), 0) from payments where invoice_id = i.invoice_id);

commit;


-- step 2 a new owner signs up and registers a pet
-- (with 120 owners nobody new is taken on, and the pet goes to one of the others)
begin;

insert into users (name, email, phone, password_hash)
select first || ' ' || last,
       lower(first || '.' || last || '.' || floor(random() * 100000) || '@example.org'),
       '+1 206 555 01' || lpad(floor(random() * 100)::text, 2, '0'),
       '$2b$12$' || substr(md5(random()::text) || md5(random()::text), 1, 53)
from (select (array['Ada', 'Boris', 'Celia', 'Denis', 'Elsa', 'Fabio', 'Gwen', 'Henrik'
                   ])[1 + floor(random() * 8)::int] as first,
             (array['Ambrose', 'Belmonte', 'Corrigal', 'Dahlgard', 'Everly', 'Fontaine', 'Grimsund'
                   ])[1 + floor(random() * 7)::int] as last
     ) as newcomer
where (select count(*) from users) < 120
on conflict (email) do nothing;

insert into pets (user_id, name, species, breed, birth_date, weight_kg)
select owner.user_id,
       (array['Archie', 'Bella', 'Chili', 'Domino', 'Echo', 'Freckles', 'Hobbes', 'Iggy'
             ])[1 + floor(random() * 8)::int],
       animal.species, animal.breed,
       current_date - (60 + floor(random() * 3000))::int,
       animal.weight_kg
from (select user_id from users
      where active order by created_at = now() desc, random() limit 1) as owner,
     (select * from (values ('dog', 'Beagle', 12.5), ('dog', 'Poodle', 7.8),
                            ('cat', 'Birman', 4.6), ('cat', 'European Shorthair', 4.1),
                            ('rabbit', 'Lionhead', 1.7), ('parrot', 'Budgerigar', 0.08)
                    ) as known (species, breed, weight_kg)
      order by random() limit 1) as animal
where (select count(*) from pets) < 300;

commit;


-- step 1 a pet changes hands, and its coming visits with it
begin;

update pets
set user_id = (select user_id from users where active order by random() limit 1),
    notes = 'New owner since ' || to_char(current_date, 'YYYY-MM-DD')
where pet_id = (select pet_id from pets join users using (user_id)
                where active order by random() limit 1);

update reservations as r
set user_id = p.user_id
from pets as p
where p.pet_id = r.pet_id
  and p.user_id <> r.user_id
  and r.status in ('requested', 'confirmed');

commit;


-- step 2 a vet goes off duty or comes back, and colleagues take over the visits
begin;

update employees
set on_duty = not on_duty
where employee_id = (select employee_id from employees
                     where role = 'veterinarian' order by random() limit 1);

update reservations as r
set employee_id = colleague.employee_id
from (select employee_id from employees
      where role = 'veterinarian' and on_duty order by random() limit 1) as colleague,
     employees as absent
where absent.employee_id = r.employee_id
  and not absent.on_duty
  and r.status in ('requested', 'confirmed');

commit;


-- step 1 an intern starts, and the one who has been here longest leaves
begin;

insert into employees (name, email, role)
select 'Intern ' || number, 'intern.' || number || '@clinic.example', 'intern'
from (select 1000 + floor(random() * 9000) as number) as badge
where (select count(*) from employees where role = 'intern') < 4
on conflict (email) do nothing;

delete from employees
where employee_id = (select employee_id from employees
                     where role = 'intern' order by employee_id desc offset 2 limit 1);

commit;


-- step 1 the manager revises the prices of one category and the special offers
-- (a minute of work stays between 1.50 and 5.00)
begin;

update services
set price = least(duration_min * 5.0, greatest(duration_min * 1.5,
                  round(price * (0.95 + 0.10 * random())::numeric, 2)))
where category = (select category from services order by random() limit 1);

update services
set active = not active
where service_id = (select service_id from services
                    where category = 'offer' order by random() limit 1);

delete from services as s
where s.category = 'offer'
  and not s.active
  and not exists (select from reservations as r where r.service_id = s.service_id);

insert into services (name, category, duration_min, price)
select 'Offer: ' || (array['senior check', 'puppy start', 'winter paws', 'dental month',
                           'travel papers', 'indoor cat check'])[1 + floor(random() * 6)::int],
       'offer', 20, 49.00
where (select count(*) from services where category = 'offer') < 4
on conflict (name) do nothing;

commit;


-- step 6 somebody logs in, and the log is cut back to its latest 500 lines
begin;

insert into activity_logs (actor, action, entity, entity_id, details)
select email, 'login', 'users', user_id,
       jsonb_build_object('ip', '203.0.113.' || 1 + floor(random() * 254)::int,
                          'agent', case when random() < 0.6 then 'web' else 'phone' end)
from (select user_id, email from users where active order by random() limit 1) as visitor;

delete from activity_logs
where log_id <= (select log_id from activity_logs order by log_id desc offset 500 limit 1);

commit;


-- step 2 the manager ticks off the latest lines of the log
update activity_logs
set details = details || '{"reviewed": true}'
where log_id in (select log_id from activity_logs order by log_id desc limit 5)
  and details -> 'reviewed' is null;


-- step 1 an owner who joined less than a month ago closes the account
begin;

update users
set active = false
where user_id = (select user_id from users
                 where active and created_at > now() - interval '30 days'
                 order by random() limit 1);

update reservations as r
set status = 'cancelled'
from users as u
where u.user_id = r.user_id
  and not u.active
  and r.status in ('requested', 'confirmed', 'in_progress');

commit;


-- step 1 in the evening, what is over and done with is cleared away
begin;

-- Finished reservations beyond the latest 250, with their invoices and payments.
-- Those with keys below 1 are the archive's, which stays.
with old as materialized (
    select reservation_id from reservations
    where status in ('completed', 'cancelled', 'no_show') and reservation_id > 0
    order by reservation_id desc offset 250),
gone_payments as (
    delete from payments as p using invoices as i, old
    where p.invoice_id = i.invoice_id and i.reservation_id = old.reservation_id),
gone_invoices as (
    delete from invoices as i using old where i.reservation_id = old.reservation_id)
delete from reservations as r using old where r.reservation_id = old.reservation_id;

-- Invoices beyond the latest 300, with their payments.
with old as materialized (
    select invoice_id from invoices order by invoice_id desc offset 300),
gone_payments as (
    delete from payments as p using old where p.invoice_id = old.invoice_id)
delete from invoices as i using old where i.invoice_id = old.invoice_id;

-- Medical records beyond the latest 400.
delete from medical_history
where record_id <= (select record_id from medical_history order by record_id desc offset 400 limit 1);

-- Lines of inboxes beyond the latest 500.
delete from inbox
where inbox_id <= (select inbox_id from inbox order by inbox_id desc offset 500 limit 1);

-- Closed accounts, with everything that hangs on them.
with closed as materialized (
    select user_id from users where not active for update),
gone_payments as (
    delete from payments as p using invoices as i, closed
    where p.invoice_id = i.invoice_id and i.user_id = closed.user_id),
gone_invoices as (
    delete from invoices as i using closed where i.user_id = closed.user_id),
gone_reservations as (
    delete from reservations as r using pets as p, closed
    where p.pet_id = r.pet_id and closed.user_id in (r.user_id, p.user_id)),
gone_pets as (
    delete from pets as p using closed where p.user_id = closed.user_id)
delete from users as u using closed where u.user_id = closed.user_id;

commit;
