class RenameAndRetype < ActiveRecord::Migration[6.1]
  def up
    rename_column :pets, :name, :called
    change_column :pets, :weight, :decimal, precision: 8, scale: 3
    execute "update pets set notes = jsonb_build_object('was', called)"
  end

  def down
    change_column :pets, :weight, :integer
    rename_column :pets, :called, :name
  end
end
