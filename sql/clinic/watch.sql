-- What a DBA runs once to make the clinic live: one call a table.
select rowcast.watch('public.users', user_rule => 'user_id', exclude => '{password_hash}');
select rowcast.watch('public.pets', user_rule => 'user_id', notification => '{"pet_name": "name", "pet_id": "pet_id"}');
select rowcast.watch('public.reservations', user_rule => 'user_id');
select rowcast.watch('public.invoices', user_rule => 'user_id');
-- a payment knows its invoice, and only that knows the user
select rowcast.watch(
  'public.payments',
  user_rule => 'select i.user_id from public.invoices i where i.invoice_id = row.invoice_id');
select rowcast.watch(
  'public.medical_history',
  user_rule => 'select p.user_id from public.pets p where p.pet_id = row.pet_id');
select rowcast.watch('public.services');
select rowcast.watch('public.employees');
select rowcast.watch('public.activity_logs');
select rowcast.watch('public.inbox');
