import Synchronization

/// What an administrator asks of the confinement of plugins' processes: `plugins.confinement`.
public enum ConfinementDemand: String, Sendable {
  /// A plugin whose process the kernel cannot confine in full is refused.
  case full
  /// A process is confined as far as the kernel can; what is missing is logged once.
  case best
}

/// What could not be taken from a process that runs a plugin, because the kernel does not know how
/// or refuses.
public struct ConfinementGaps: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  static let files = ConfinementGaps(rawValue: 1)
  static let signals = ConfinementGaps(rawValue: 2)
  static let capabilities = ConfinementGaps(rawValue: 4)
  static let limits = ConfinementGaps(rawValue: 8)

  private static let all: [(gap: ConfinementGaps, text: String)] = [
    (
      .files,
      "without Landlock (Linux 5.13) a plugin can, while it is loaded, read every file that the "
        + "daemon's user can read"
    ),
    (
      .signals,
      "without Landlock 6 (Linux 6.12) the filter of system calls alone keeps a plugin's signals "
        + "from other processes"
    ),
    (
      .capabilities,
      "its capabilities are not dropped: the filter of system calls alone stands before them"
    ),
    (
      .limits,
      "a limit of its resources is not set: its memory or files may be bounded by plugins.memory "
        + "no longer"
    ),
  ]

  /// What is missing and what that means.
  public var text: String {
    ConfinementGaps.all.filter { contains($0.gap) }.map(\.text).joined(separator: "; ")
  }

  private static let said = Atomic<UInt32>(0)

  /// Those that this program has not been told of before: the daemon says each once.
  public func firstTime() -> ConfinementGaps {
    let before = ConfinementGaps.said.bitwiseOr(rawValue, ordering: .relaxed).oldValue
    return subtracting(ConfinementGaps(rawValue: before))
  }

  /// The line of the log about those that are new; nil: there are none.
  public func takeLine() -> String? {
    let new = firstTime()
    return new.text.isEmpty
      ? nil
      : "plugins' processes are not confined in full: \(new.text) (plugins.confinement: full "
        + "refuses such plugins)"
  }
}
