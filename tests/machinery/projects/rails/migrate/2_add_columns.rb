class AddColumns < ActiveRecord::Migration[6.1]
  def change
    add_column :pets, :species, :string, default: "cat", null: false
    add_column :pets, :notes, :jsonb, default: {}
    add_index :pets, :species
    add_foreign_key :pets, :clinics
  end
end
