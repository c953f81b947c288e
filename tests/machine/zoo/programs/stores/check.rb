# Sidekiq and ActionCable over the server that REDIS_SOCKET, REDIS_USERNAME and REDIS_PASSWORD name.
require "timeout"
path, user, password = %w[REDIS_SOCKET REDIS_USERNAME REDIS_PASSWORD].map { |name| ENV.fetch(name) }
SERVER = { path: path, username: user, password: password }.freeze

def try(name)
  Timeout.timeout(20) { yield }
  puts "#{name}: works"
rescue Exception => error # whatever it is
  puts "#{name}: #{error.message.lines.first.to_s.strip}"
end

try("Sidekiq") do
  require "sidekiq"
  $done = Queue.new
  class Double
    include Sidekiq::Worker
    def perform(number)
      $done << number * 2
    end
  end
  Sidekiq.logger.level = Logger::FATAL
  if Sidekiq.respond_to?(:configure_embed)
    launcher = Sidekiq.configure_embed { |config| config.redis, config.concurrency = SERVER, 1 }
  else # before the seventh version
    require "sidekiq/cli"
    require "sidekiq/launcher"
    Sidekiq.redis = SERVER
    launcher = Sidekiq::Launcher.new(Sidekiq.options.merge(queues: ["default"], concurrency: 1))
  end
  Double.perform_async(21)
  launcher.run
  raise "not done" unless $done.pop == 42
  launcher.stop
end

try("ActionCable") do
  require "active_support/all"
  require "action_cable"
  require "action_cable/subscription_adapter/redis"
  server = ActionCable::Server::Base.new
  server.config.logger = Logger.new(File::NULL)
  server.config.cable = { "adapter" => "redis", "channel_prefix" => "c" }
  ActionCable::SubscriptionAdapter::Redis.redis_connector = ->(_) { ::Redis.new(SERVER) }
  adapter = ActionCable::SubscriptionAdapter::Redis.new(server)
  heard, subscribed = Queue.new, Queue.new
  adapter.subscribe("news", ->(text) { heard << text }, -> { subscribed << true })
  subscribed.pop
  adapter.broadcast("news", "hello")
  raise "not heard" unless heard.pop == "hello"
end
