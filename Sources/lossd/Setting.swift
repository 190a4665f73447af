import Configuration
import LossdSocket
import LossdTensor

/// One key of the configuration: how it is read and shown, and what it means.
struct Setting: Sendable {
  let name: String
  let help: String
  /// What its values look like: `size`, `time`, `number`.
  let kind: String
  var isList = false
  /// What an item of the list may have that is a mapping in a file, what the item is itself first;
  /// the others are written behind it with `=` and `+` elsewhere. Empty: items are texts.
  var members: [String] = []
  /// Whether it is taken at the start alone, not by a reload.
  var needsRestart = false
  let apply: @Sendable (inout Settings, String) throws -> Void
  /// Its value as `apply` would read it.
  let show: @Sendable (Settings) -> String

  /// As the providers of values call it.
  var key: AbsoluteConfigKey { AbsoluteConfigKey(name.split(separator: ".").map(String.init)) }

  /// The first provider's text for it, and which one that is; nil when nobody has one.
  func read(_ providers: [any ConfigProvider]) -> (text: String, provider: Int)? {
    for (index, provider) in providers.enumerated() {
      // A list is written as one in a file and with commas elsewhere.
      for type in isList ? [ConfigType.stringArray, .string] : [.string] {
        guard let value = try? provider.value(forKey: key, type: type).value else { continue }
        switch value.content {
        case .string(let text): return (text, index)
        case .stringArray(let texts): return (texts.joined(separator: ","), index)
        default: continue
        }
      }
    }
    return nil
  }

  /// Takes `text` over. Throws why it cannot be used, with the setting's name.
  func use(_ text: String, in settings: inout Settings) throws(SettingError) {
    do { try apply(&settings, text) } catch {
      throw SettingError("\(name): \((error as? SettingError)?.text ?? "\(error)")")
    }
  }

  typealias Path<Value> = WritableKeyPath<Settings, Value> & Sendable

  // MARK: - Kinds

  /// A whole number.
  static func number<Value: FixedWidthInteger & Sendable>(
    _ name: String, _ help: String, _ range: ClosedRange<Int>, _ path: Path<Value>,
    needsRestart: Bool = false
  ) -> Setting {
    Setting(
      name: name, help: help, kind: "number from \(range.lowerBound) to \(range.upperBound)",
      needsRestart: needsRestart,
      apply: { settings, text in
        guard let value = Int(text.trimmed), range.contains(value) else {
          throw SettingError(
            "\(text.asValue) is not a number from \(range.lowerBound) to \(range.upperBound)")
        }
        settings[keyPath: path] = Value(value)
      }, show: { "\($0[keyPath: path])" })
  }

  /// `4194304`, `4MiB`, `1 GiB`.
  static func bytes<Value: FixedWidthInteger & Sendable>(
    _ name: String, _ help: String, _ range: ClosedRange<Int>, _ path: Path<Value>,
    needsRestart: Bool = false
  ) -> Setting {
    let kind = "size from \(sizeText(range.lowerBound)) to \(sizeText(range.upperBound))"
    return Setting(
      name: name, help: help, kind: kind, needsRestart: needsRestart,
      apply: { settings, text in
        let (digits, unit) = text.splitUnit
        if let number = Int(digits), let factor = sizes.first(where: { $0.unit == unit })?.bytes {
          let (value, overflow) = number.multipliedReportingOverflow(by: factor)
          if !overflow && range.contains(value) {
            settings[keyPath: path] = Value(value)
            return
          }
        }
        throw SettingError("\(text.asValue) is not a \(kind) (units KiB, MiB, GiB, TiB)")
      }, show: { sizeText(Int($0[keyPath: path])) })
  }

  /// `30s`, `500ms`, `2min`; nanoseconds.
  static func duration(
    _ name: String, _ help: String, _ path: Path<UInt64>, needsRestart: Bool = false
  ) -> Setting {
    Setting(
      name: name, help: help, kind: "time", needsRestart: needsRestart,
      apply: { settings, text in
        let (digits, unit) = text.splitUnit
        let factor =
          unit.isEmpty ? 1_000_000_000 : times.first(where: { $0.unit == unit })?.nanoseconds
        if let number = UInt64(digits), let factor {
          let (value, overflow) = number.multipliedReportingOverflow(by: factor)
          if !overflow && value <= 31_536_000_000_000_000 {
            settings[keyPath: path] = value
            return
          }
        }
        throw SettingError("\(text.asValue) is not a time up to a year (units us, ms, s, min, h)")
      },
      show: { timeText($0[keyPath: path]) })
  }

  /// `true` or `false`.
  static func flag(_ name: String, _ help: String, _ path: Path<Bool>) -> Setting {
    Setting(
      name: name, help: help, kind: "true or false",
      apply: { settings, text in
        switch text.trimmed {
        case "true", "yes", "on": settings[keyPath: path] = true
        case "false", "no", "off": settings[keyPath: path] = false
        default: throw SettingError("\(text.asValue) is not true or false")
        }
      }, show: { $0[keyPath: path] ? "true" : "false" })
  }

  /// Texts, each of which `check` accepts.
  static func list(
    _ name: String, _ help: String, _ kind: String, _ path: Path<[String]>,
    members: [String] = [], check: @escaping @Sendable (String) throws -> Void
  ) -> Setting {
    Setting(
      name: name, help: help, kind: kind, isList: true, members: members, needsRestart: true,
      apply: { settings, text in
        let items = text.split(separator: ",").map { $0.trimmed }
        for item in items { try check(item) }
        settings[keyPath: path] = items
      }, show: { $0[keyPath: path].joined(separator: ",") })
  }

  // MARK: - Units

  private static let sizes: [(unit: String, bytes: Int)] = [
    ("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1), ("", 1),
  ]
  private static let times: [(unit: String, nanoseconds: UInt64)] = [
    ("h", 3_600_000_000_000), ("min", 60_000_000_000), ("s", 1_000_000_000), ("ms", 1_000_000),
    ("us", 1_000),
  ]

  private static func sizeText(_ bytes: Int) -> String {
    let best = sizes.first { bytes >= $0.bytes && bytes % $0.bytes == 0 }
    return best.map { "\(bytes / $0.bytes)\($0.unit)" } ?? "\(bytes)"
  }

  private static func timeText(_ nanoseconds: UInt64) -> String {
    let best = times.first { nanoseconds >= $0.nanoseconds && nanoseconds % $0.nanoseconds == 0 }
    return best.map { "\(nanoseconds / $0.nanoseconds)\($0.unit)" } ?? "\(nanoseconds)"
  }
}

extension StringProtocol {
  /// A value as a refusal shows it.
  var asValue: String { isEmpty ? "an empty text" : shownBriefly }

  var trimmed: String {
    var text = Substring(self)
    while text.first?.isWhitespace ?? false { text = text.dropFirst() }
    while text.last?.isWhitespace ?? false { text = text.dropLast() }
    return String(text)
  }

  /// `4 MiB` as `4` and `MiB`.
  fileprivate var splitUnit: (digits: String, unit: String) {
    let text = trimmed
    let digits = text.prefix { $0.isNumber }
    return (String(digits), text[digits.endIndex...].trimmed)
  }
}
