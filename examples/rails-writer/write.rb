# What an application does all day, by ActiveRecord alone: it makes, changes and deletes, and sometimes changes its mind.
require "active_record"

ActiveRecord::Base.establish_connection(
  adapter: "postgresql",
  host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"]
)
ActiveRecord::Schema.verbose = false

class Pet < ActiveRecord::Base
end

if ARGV[0] == "migrate"
  ActiveRecord::Schema.define do
    create_table :pets, if_not_exists: true do |table|
      table.string :name, null: false
      table.integer :weight, null: false, default: 0
      table.timestamps
    end
  end
  exit
end

luna = Pet.create!(name: "Luna", weight: 4)
Pet.insert_all(3.times.map { |number| { name: "kitten #{number}", created_at: Time.now, updated_at: Time.now } })
Pet.where(name: "Luna").update_all("weight = weight + 1")
Pet.transaction do
  Pet.create!(name: "Never")
  raise ActiveRecord::Rollback
end
luna.destroy!
