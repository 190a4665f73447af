import ArgumentParser
import LossdClient

/// lossctl ping
struct Ping: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Measure the way to the daemon and back.")

  @OptionGroup var server: ServerOption
  @OptionGroup var limit: AnswerLimit

  @Option(name: [.short, .long], help: ArgumentHelp("How many times.", valueName: "n"))
  var count = 1

  func run() async throws {
    try await reporting {
      let client = try server.client()
      let hello = try await limit.whileWaiting(for: client.address) { try await client.hello() }
      let clock = ContinuousClock()
      for _ in 0..<max(count, 1) {
        let start = clock.now
        guard
          try await limit.whileWaiting(for: client.address, { try await client.ping() })
        else { throw Complaint("no answer", status: 69) }
        let time = clock.now - start
        let microseconds =
          Double(time.components.attoseconds) / 1e12
          + Double(time.components.seconds) * 1e6
        print("\(hello.software.shown) at \(client.address): \(fixed(microseconds, 0)) us")
      }
      client.close()
    }
  }
}
