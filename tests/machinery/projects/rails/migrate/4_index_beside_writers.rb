class IndexBesideWriters < ActiveRecord::Migration[6.1]
  disable_ddl_transaction!

  def change
    add_index :pets, :called, algorithm: :concurrently
  end
end
