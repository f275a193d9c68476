# What the tasks of Rails do, by ActiveRecord alone: migrate, rollback, db:schema:dump, db:structure:dump and :load.
require "active_record"

config = { adapter: "postgresql", host: ENV["PGHOST"], port: ENV["PGPORT"], username: ENV["PGUSER"], database: ENV["PGDATABASE"] }
ActiveRecord::Base.establish_connection(config)
ActiveRecord::Migration.verbose = false
require "./rowcast" if File.exist?("rowcast.rb")

class Clinic < ActiveRecord::Base
  has_many :pets, dependent: :destroy
end

class Pet < ActiveRecord::Base
  belongs_to :clinic
end

context = ActiveRecord::MigrationContext.new("migrate", ActiveRecord::SchemaMigration)
hash = ActiveRecord::DatabaseConfigurations::HashConfig.new("test", "primary", config)
tasks = ActiveRecord::Tasks::DatabaseTasks

case ARGV[0]
when "migrate" then context.migrate(ARGV[1].to_i)
when "rollback" then context.rollback(ARGV[1].to_i)
when "write"
  clinic = Clinic.create!(name: "North")
  pets = 12.times.map { |n| Pet.create!(called: "pet #{n}", weight: n, clinic: clinic) }
  Pet.update_all("weight = weight * 2")
  pets[0].update!(called: "it's", notes: { "a" => [1, nil] })
  Pet.insert_all([{ called: "all", weight: 1, clinic_id: clinic.id, created_at: Time.now, updated_at: Time.now }])
  Pet.upsert_all([{ id: pets[1].id, called: "upsert", weight: 1, clinic_id: clinic.id, created_at: Time.now, updated_at: Time.now }])
  Pet.transaction do
    pets[2].destroy!
    Pet.transaction(requires_new: true) do
      pets[3].destroy!
      raise ActiveRecord::Rollback
    end
    pets[4].lock!.touch
  end
  Clinic.create!(name: "South").tap { |other| other.pets.create!(called: "gone", weight: 1) }.destroy!
when "schema" then ActiveRecord::SchemaDumper.dump(ActiveRecord::Base.connection, $stdout)
when "structure"
  tasks.structure_dump(hash, "structure.sql")
  puts File.read("structure.sql")
when "load" then tasks.structure_load(hash, "structure.sql")
end
