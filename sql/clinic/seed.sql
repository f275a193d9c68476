-- A believable clinic to start from: 40 owners, 70 pets, 8 employees, 12 services,
-- 120 reservations (80 past, 12 today, 28 coming), 60 medical records, 80 invoices,
-- 70 payments and 50 lines of log.
--
-- Everything follows from arithmetic over short lists. Dates are relative to today;
-- only the two visits in progress and the log look at the hour as well. Keys count
-- from 1, and all names are invented. When there is a single user already, nothing
-- happens.

do $$
declare
    today constant timestamptz := date_trunc('day', now());

    first_names constant text[] := array[
        'Alma', 'Bruno', 'Clara', 'Dario', 'Edith', 'Felix', 'Greta', 'Hugo', 'Irene', 'Jonas',
        'Katia', 'Leon', 'Mira', 'Nils', 'Olga', 'Pavel', 'Quinn', 'Rosa', 'Simon', 'Thea'];
    last_names constant text[] := array[
        'Abelard', 'Birkholt', 'Castellan', 'Dunmore', 'Eastwick', 'Fenwater', 'Galbrin', 'Hartwold',
        'Ingersby', 'Jorvand', 'Kestrelby', 'Lindqvar', 'Marchetto', 'Nordhagel', 'Oakhurst', 'Pellegrand',
        'Quillfeather', 'Rosendahl', 'Silvergate', 'Thornbury', 'Umberfield', 'Valtorre', 'Westerlund'];
    area_codes constant text[] := array['206', '303', '415', '512', '617'];

    pet_names constant text[] := array[
        'Biscuit', 'Nala', 'Oscar', 'Pepper', 'Luna', 'Rocky', 'Misty', 'Hazel', 'Bandit', 'Coco',
        'Ziggy', 'Maple', 'Shadow', 'Olive', 'Pixel', 'Waffles', 'Ginger', 'Otto', 'Juno', 'Pickle',
        'Mango', 'Tilly', 'Bruno', 'Cleo', 'Dusty', 'Ember', 'Figaro', 'Gizmo', 'Honey', 'Indigo',
        'Jasper', 'Kiwi', 'Lola', 'Moss', 'Nutmeg', 'Pippin', 'Sable'];

    service_names constant text[] := array[
        'General consultation', 'Follow-up consultation', 'Annual vaccination', 'Parasite prevention',
        'Microchip and registration', 'Blood panel', 'X-ray, two views', 'Abdominal ultrasound',
        'Dental scaling', 'Neutering', 'Soft tissue surgery', 'Nail and ear care'];
    diagnoses constant text[] := array[
        'Mild gastroenteritis', 'Recovering well after gastroenteritis', 'Healthy, fit for vaccination',
        'Flea infestation, light', 'Healthy, chip readable', 'Slightly raised liver values',
        'Sprain of the left foreleg, no fracture', 'Bladder stones, small', 'Tartar grade two, mild gingivitis',
        'Healthy, fit for anaesthesia', 'Benign lipoma on the flank', 'Overgrown claws, wax in both ears'];
    treatments constant text[] := array[
        'Bland diet for five days, probiotic paste', 'Return to usual food over three days',
        'Combined vaccine, next one in a year', 'Spot-on treatment, repeat after four weeks',
        'Chip implanted between the shoulder blades', 'Liver diet, new blood panel in six weeks',
        'Rest for two weeks, anti-inflammatory for five days', 'Urinary diet, plenty of water, check in a month',
        'Scaling under anaesthesia, dental gel daily', 'Neutered, stitches out in ten days',
        'Lipoma removed, collar for ten days', 'Claws trimmed, ear cleaner twice a week'];
begin
    if exists (select from users) then
        return;
    end if;

    -- Long-standing customers: the latest joined more than a month ago.
    insert into users (user_id, name, email, phone, password_hash, created_at)
    select n,
           f || ' ' || l,
           lower(f || '.' || l || '@example.com'),
           '+1 ' || area_codes[1 + n % 5] || ' 555 01' || lpad((n * 37 % 100)::text, 2, '0'),
           '$2b$12$' || substr(md5('salt' || n) || md5('word' || n), 1, 53),
           today - (40 + (40 - n) * 23) * interval '1 day' + (8 * 60 + n * 97 % 720) * interval '1 minute'
    from generate_series(1, 40) as n,
         lateral (select first_names[1 + n % 20] as f, last_names[1 + n * 7 % 23] as l) as person
    order by n;

    -- One pet for everybody, then second and third ones for some.
    insert into pets (pet_id, user_id, name, species, breed, birth_date, weight_kg, notes, updated_at)
    select n,
           case when n <= 40 then n else 1 + n * 7 % 40 end,
           pet_names[1 + n * 11 % 37],
           kind.species,
           kind.breed,
           (today - (200 + n * 149 % 4200) * interval '1 day')::date,
           round(kind.weight * (85 + n * 17 % 31) / 100, 2),
           case n % 9 when 2 then 'Nervous in the waiting room, call straight in'
                      when 5 then 'Allergic to penicillin'
                      when 7 then 'Needs a muzzle for injections' end,
           least(now(), today - (n * 5 % 90) * interval '1 day' + (9 * 60 + n * 53 % 480) * interval '1 minute')
    from generate_series(1, 70) as n
    join (values ( 0, 'dog',        'Labrador Retriever',    29.0),
                 ( 1, 'cat',        'European Shorthair',     4.3),
                 ( 2, 'dog',        'Dachshund',              8.5),
                 ( 3, 'cat',        'Maine Coon',             6.2),
                 ( 4, 'rabbit',     'Dwarf Lop',              1.8),
                 ( 5, 'dog',        'Border Collie',         18.0),
                 ( 6, 'cat',        'Siamese',                3.9),
                 ( 7, 'guinea pig', 'Abyssinian',             0.95),
                 ( 8, 'dog',        'Mixed breed',           14.0),
                 ( 9, 'parrot',     'Cockatiel',              0.09),
                 (10, 'cat',        'British Shorthair',      5.1),
                 (11, 'dog',        'Jack Russell Terrier',   6.8),
                 (12, 'tortoise',   'Hermann''s tortoise',    1.4)
         ) as kind (k, species, breed, weight) on kind.k = n % 13
    order by n;

    insert into employees (employee_id, name, email, role, on_duty, hired_on)
    select n, name, lower(replace(name, ' ', '.')) || '@clinic.example', role, n <> 4,
           (today - days * interval '1 day')::date
    from (values (1, 'Vera Holmgard',    'veterinarian', 4380),
                 (2, 'Anton Brisebois',  'veterinarian', 2950),
                 (3, 'Selma Oduvar',     'veterinarian', 1610),
                 (4, 'Marek Tilvane',    'veterinarian',  420),
                 (5, 'Lotte Grunfeld',   'assistant',    1980),
                 (6, 'Iris Camberley',   'assistant',     610),
                 (7, 'Oskar Penhallow',  'receptionist', 1240),
                 (8, 'Ruth Ashgrove',    'bookkeeper',   3300)) as e (n, name, role, days)
    order by n;

    insert into services (service_id, name, category, duration_min, price)
    select n, service_names[n], category, duration_min, price
    from (values ( 1, 'consultation', 30,  58.00),
                 ( 2, 'consultation', 15,  32.00),
                 ( 3, 'prevention',   15,  44.50),
                 ( 4, 'prevention',   10,  26.00),
                 ( 5, 'prevention',   15,  39.90),
                 ( 6, 'diagnostics',  30,  86.00),
                 ( 7, 'diagnostics',  45, 118.00),
                 ( 8, 'diagnostics',  45, 135.00),
                 ( 9, 'care',         60, 164.00),
                 (10, 'surgery',      90, 228.00),
                 (11, 'surgery',     120, 390.00),
                 (12, 'care',         20,  34.00)) as s (n, category, duration_min, price)
    order by n;

    -- In order of time: 1-80 over the last sixty days, 81-92 today (two of them in
    -- the consulting rooms right now), 93-120 over the next three weeks.
    insert into reservations (reservation_id, pet_id, user_id, employee_id, service_id, starts_at, status)
    select n, pet_id, user_id, 1 + n * 3 % 4, 1 + n * 5 % 12,
           case when n <= 80 then today - (60 - (n - 1) * 3 / 4) * interval '1 day'
                                        + (9 * 60 + n * 7 % 16 * 30) * interval '1 minute'
                when n <= 82 then date_trunc('minute', now()) - (n - 78) * interval '5 minutes'
                when n <= 92 then today + (12 * 60 + (n - 83) * 30) * interval '1 minute'
                else              today + (1 + (n - 93) * 3 / 4) * interval '1 day'
                                        + (9 * 60 + n * 7 % 16 * 30) * interval '1 minute'
           end,
           (case when n <= 80 and n % 16 = 0 then 'cancelled'
                 when n <= 80 and n % 20 = 7 then 'no_show'
                 when n <= 80                then 'completed'
                 when n <= 82                then 'in_progress'
                 when n <= 92                then 'confirmed'
                 when n = 100                then 'cancelled'
                 when n % 3 = 0              then 'requested'
                 else                             'confirmed' end)::reservation_status
    from generate_series(1, 120) as n
    join pets on pet_id = 1 + n * 13 % 70
    order by n;

    -- The latest sixty completed visits, each with what its service turns up.
    insert into medical_history (record_id, pet_id, employee_id, visit_date, diagnosis, treatment)
    select row_number() over (order by reservation_id),
           pet_id, employee_id, starts_at::date, diagnoses[service_id], treatments[service_id]
    from (select * from reservations
          where status = 'completed' order by reservation_id desc limit 60) as visit;

    -- One invoice for each of the 71 completed visits, and nine sales over the counter.
    insert into invoices (invoice_id, user_id, reservation_id, total, status, issued_at)
    select n, user_id, reservation_id, total,
           (case when n % 8 = 0                then 'open'
                 when n in (13, 39, 65, 77)    then 'void'
                 else                               'paid' end)::invoice_status,
           issued_at
    from (select row_number() over (order by issued_at, user_id) as n, bill.*
          from (select r.user_id, r.reservation_id, s.price as total,
                       r.starts_at + s.duration_min * interval '1 minute' as issued_at
                from reservations as r
                join services as s using (service_id)
                where r.status = 'completed'
                union all
                select 1 + k * 11 % 40, null, 9.90 + k * 4.75,
                       today - k * 6 * interval '1 day' + (10 * 60 + k * 41) * interval '1 minute'
                from generate_series(1, 9) as k) as bill) as numbered
    order by n;

    -- All 66 paid invoices, four of them in two instalments.
    insert into payments (payment_id, invoice_id, amount, method, paid_at)
    select row_number() over (order by paid_at, invoice_id), invoice_id, amount, method, paid_at
    from (select invoice_id,
                 case when part = 2                then total - round(total / 2, 2)
                      when invoice_id % 20 = 1     then round(total / 2, 2)
                      else                              total end as amount,
                 (array['card', 'cash', 'card', 'transfer', 'card', 'insurance', 'cash'])[1 + invoice_id % 7] as method,
                 issued_at + part * interval '4 minutes' as paid_at
          from invoices, generate_series(1, 2) as part
          where status = 'paid' and (part = 1 or invoice_id % 20 = 1)) as paid;

    -- Two days of log.
    insert into activity_logs (log_id, actor, action, entity, entity_id, details, at)
    select n, actor, action, entity, entity_id, details,
           date_trunc('minute', now()) - (51 - n) * interval '55 minutes'
    from generate_series(1, 50) as n
    join users as u on u.user_id = 1 + n * 7 % 40
    join employees as e on e.employee_id = 1 + n % 8,
    lateral (values
        (0, u.email, 'login',          'users',        u.user_id,
            jsonb_build_object('ip', '192.0.2.' || n * 5 % 250 + 1, 'agent', 'web')),
        (1, u.email, 'login',          'users',        u.user_id,
            jsonb_build_object('ip', '198.51.100.' || n * 3 % 250 + 1, 'agent', 'phone')),
        (2, 'clinic_app', 'status changed', 'reservations', 83 + n / 5::bigint,
            jsonb_build_object('from', 'requested', 'to', 'confirmed')),
        (3, e.email, 'file opened',    'pets',         1 + n * 13::bigint % 70,
            jsonb_build_object('reason', 'visit')),
        (4, e.email, 'report printed', 'invoices',     null,
            jsonb_build_object('pages', 1 + n % 4))
    ) as line (k, actor, action, entity, entity_id, details)
    where line.k = n % 5
    order by n;

    -- None of this is news: the inboxes begin empty.
    delete from inbox;

    -- The keys above were given by hand: let the next ones follow on.
    perform setval(
      pg_get_serial_sequence('users',           'user_id'),
      (select max(user_id)        from users)),
            setval(pg_get_serial_sequence('pets',            'pet_id'),         (select max(pet_id)         from pets)),
            setval(
              pg_get_serial_sequence('employees',       'employee_id'),
              (select max(employee_id)    from employees)),
            setval(
              pg_get_serial_sequence('services',        'service_id'),
              (select max(service_id)     from services)),
            setval(
              pg_get_serial_sequence('reservations',    'reservation_id'),
              (select max(reservation_id) from reservations)),
            setval(
              pg_get_serial_sequence('medical_history', 'record_id'),
              (select max(record_id)      from medical_history)),
            setval(
              pg_get_serial_sequence('invoices',        'invoice_id'),
              (select max(invoice_id)     from invoices)),
            setval(
              pg_get_serial_sequence('payments',        'payment_id'),
              (select max(payment_id)     from payments)),
            setval(
              pg_get_serial_sequence('activity_logs',   'log_id'),
              (select max(log_id)         from activity_logs));
end
$$;
