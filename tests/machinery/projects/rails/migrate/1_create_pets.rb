class CreatePets < ActiveRecord::Migration[6.1]
  def change
    create_table(:clinics) do |t|
      t.string :name, null: false
      t.timestamps
    end
    create_table(:pets) do |t|
      t.string :name, null: false
      t.integer :weight
      t.bigint :clinic_id, null: false
      t.timestamps
    end
    reversible { |way| way.up { execute "insert into clinics values (1, 'First', now(), now()); select setval('clinics_id_seq', 1)" } }
  end
end
