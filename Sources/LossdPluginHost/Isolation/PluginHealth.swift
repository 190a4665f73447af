import LossdEngine

/// How often a plugin's processes die, and what follows from it: the first time another is started
/// at once, then later and later; after many crashes the plugin is set aside for a while, since it
/// would only go on so.
struct PluginHealth {
  /// Crashes in a row, without an answer in between, after which it is set aside.
  static let crashesInARowMax = 5
  /// The same within `crashWindow`, whatever it answered in between.
  static let crashesMax = 20
  static let crashWindow: UInt64 = 60_000_000_000
  static let setAsideTime: UInt64 = 60_000_000_000
  static let pauseMin: UInt64 = 50_000_000
  static let pauseMax: UInt64 = 5_000_000_000

  /// Processes that had to be started again.
  private(set) var restarts = 0
  /// Why the last one ended.
  private(set) var lastReason = ""
  private(set) var crashesInARow = 0
  private var crashTimes: [UInt64] = []
  private var pauseEnd: UInt64 = 0
  private(set) var isSetAside = false

  /// A process has ended that nobody had asked to.
  mutating func died(_ reason: String, now: UInt64 = Clock.now) {
    restarts += 1
    lastReason = reason
    crashesInARow += 1
    crashTimes.removeAll { $0 + PluginHealth.crashWindow < now }
    crashTimes.append(now)
    if isSetAside || crashesInARow >= PluginHealth.crashesInARowMax
      || crashTimes.count >= PluginHealth.crashesMax
    {
      isSetAside = true
      pauseEnd = now + PluginHealth.setAsideTime
      crashTimes.removeAll()
    } else if crashesInARow > 1 {
      let pause = PluginHealth.pauseMin << UInt64(min(crashesInARow - 2, 10))
      pauseEnd = now + min(pause, PluginHealth.pauseMax)
    }
  }

  /// A call was answered.
  mutating func answered() {
    crashesInARow = 0
    isSetAside = false
  }

  /// How long no process may be started yet, nanoseconds. When a plugin that was set aside may be
  /// tried again, one crash sets it aside anew.
  func pause(now: UInt64 = Clock.now) -> UInt64 { pauseEnd > now ? pauseEnd - now : 0 }
}
