import Configuration
import LossdTensor
import LossdYAML
import SystemPackage

/// The administrator's file: YAML whose keys are settings, or groups of settings.
struct SettingsFile {
  /// A file is text of an administrator's: more is a mistake.
  static let bytesMax = 1 << 20
  /// Settings are two keys deep, and a list; nobody writes one of them in over 20000 parts.
  private static let limits = YAMLLimits(aliasesMax: 8, depthMax: 8, nodesMax: 20_000)

  /// The file's.
  private let path: String
  /// What the file sets, as texts and lists of texts; nothing where it has comments alone.
  private(set) var values: [AbsoluteConfigKey: ConfigValue] = [:]
  /// Where the values stand: a list's items each.
  private var lines: [AbsoluteConfigKey: [Int]] = [:]

  /// Reads a file.
  ///
  /// - Throws: `SettingError` that names file and line, where it cannot be read, a key is no
  ///   setting's or there twice, or a value is of the wrong kind.
  init(_ path: String) throws(SettingError) {
    self.path = path
    let root: YAMLNode?
    do {
      root = try readYAML(try [UInt8](contentsOf: FilePath(path)), limits: SettingsFile.limits)
    } catch let error as YAMLError {
      throw SettingError("\(path): \(error)")
    } catch { throw SettingError("\(path): \(error)") }
    guard let root, !root.isNull else { return }
    guard case .mapping(let pairs) = root.content else {
      throw SettingError("\(path): line \(root.line): expected settings, `key: value` lines")
    }
    do throws(FlawInLine) {
      for (key, value) in pairs {
        if SettingsFile.groups.contains(key.text), case .mapping(let members) = value.content {
          for (member, value) in members {
            try add("\(key.text).\(member.text)", member.line, value)
          }
        } else {
          try add(key.text, key.line, value)
        }
      }
    } catch { throw SettingError("\(path): line \(error.line): \(error.text)") }
  }

  private mutating func add(_ name: String, _ line: Int, _ value: YAMLNode) throws(FlawInLine) {
    let key = AbsoluteConfigKey(name.split(separator: ".").map(String.init))
    let content = try SettingsFile.content(name, line, value)
    guard values.updateValue(ConfigValue(content, isSecret: false), forKey: key) == nil else {
      throw FlawInLine(line, "\(name) is there twice")
    }
    lines[key] = [line]
    // An alias has the line of its anchor, which is another value's.
    if case .list(let items) = value.content { lines[key] = items.map { max($0.line, line) } }
  }

  /// Why a value of the file cannot be used, with the file and the line of the value: of a list the
  /// first item's that cannot be used by itself.
  func located(_ error: SettingError, of setting: Setting) -> SettingError {
    let lines = lines[setting.key] ?? []
    var line = lines.first
    if case .stringArray(let items)? = values[setting.key]?.content {
      for (item, itsLine) in zip(items, lines) {
        var settings = Settings()
        do throws(SettingError) { try setting.use(item, in: &settings) } catch {
          line = itsLine
          break
        }
      }
    }
    return SettingError("\(path): \(line.map { "line \($0): " } ?? "")\(error.text)")
  }

  private struct FlawInLine: Error {
    let line: Int
    let text: String
    init(_ line: Int, _ text: String) { (self.line, self.text) = (line, text) }
  }

  /// What stands before the point of a setting's name.
  private static let groups = Set(
    Setting.all.compactMap { $0.name.split(separator: ".").dropLast().first.map(String.init) })

  /// A value. A key that nobody reads is a mistake, most often one of spelling; a value of the
  /// wrong kind would not be read and leave the setting as it was.
  private static func content(_ name: String, _ line: Int, _ value: YAMLNode) throws(FlawInLine)
    -> ConfigContent
  {
    guard let setting = Setting.all.first(where: { $0.name == name }) else {
      if groups.contains(name) {
        throw FlawInLine(line, "\(name) has settings under it, expected `key: value` lines there")
      }
      throw FlawInLine(
        line,
        "there is no setting \(name.shownBriefly)"
          + didYouMean(name, among: Setting.all.map(\.name))
      )
    }
    switch value.content {
    case .scalar(let text): return .string(text)
    case .list(let items) where setting.isList:
      return .stringArray(
        try items.map { (item) throws(FlawInLine) in try text(of: item, setting, line) })
    case .list: throw FlawInLine(line, "\(name) is a list, expected \(setting.kind)")
    case .mapping: throw FlawInLine(line, "\(name) is a mapping, expected \(setting.kind)")
    }
  }

  /// An item of a list, as it is written where there are texts alone.
  private static func text(
    of item: YAMLNode, _ setting: Setting, _ line: Int
  ) throws(FlawInLine) -> String {
    let name = setting.name
    switch item.content {
    case .scalar(let text): return text
    case .mapping(let pairs) where !setting.members.isEmpty:
      var texts: [String?] = setting.members.map { _ in nil }
      for (key, value) in pairs {
        guard let index = setting.members.firstIndex(of: key.text) else {
          throw FlawInLine(
            key.line,
            "an item of \(name) has no \(key.text.shownBriefly), expected "
              + setting.members.joined(separator: ", "))
        }
        texts[index] = try memberText(
          value, "\(key.text) of an item of \(name)", isFirst: index == 0)
      }
      guard let first = texts[0] else {
        throw FlawInLine(item.line, "an item of \(name) has no \(setting.members[0])")
      }
      return zip(setting.members, texts).dropFirst().reduce(first) { text, member in
        member.1.map { "\(text) \(member.0)=\($0)" } ?? text
      }
    default: throw FlawInLine(line, "\(name) is a list, expected \(setting.kind)")
    }
  }

  /// A text, or a list of texts none of which could be taken for more than one.
  private static func memberText(
    _ value: YAMLNode, _ what: String, isFirst: Bool
  ) throws(FlawInLine) -> String {
    var texts: [String] = []
    switch value.content {
    case .scalar(let text) where isFirst: return text
    case .scalar(let text): texts = [text]
    case .list(let items) where !isFirst:
      for case .scalar(let text) in items.map(\.content) { texts.append(text) }
      if texts.count < items.count { fallthrough }
    default:
      throw FlawInLine(
        value.line, "\(what) is not \(isFirst ? "a text" : "a text or a list of texts")")
    }
    for text in texts where text.contains(where: { $0.isWhitespace || $0 == "+" || $0 == "," }) {
      throw FlawInLine(value.line, "\(text.asValue) cannot be in \(what)")
    }
    return texts.joined(separator: "+")
  }
}

extension [UInt8] {
  /// The whole file.
  init(contentsOf path: FilePath) throws {
    let descriptor = try FileDescriptor.open(path, .readOnly)
    var bytes: [UInt8] = []
    try descriptor.closeAfter {
      var buffer = [UInt8](repeating: 0, count: 1 << 16)
      while true {
        let count = try buffer.withUnsafeMutableBytes { try descriptor.read(into: $0) }
        if count == 0 { break }
        bytes += buffer[..<count]
        if bytes.count > SettingsFile.bytesMax {
          throw SettingError("the file is over 1 MiB, the most that it may have")
        }
      }
    }
    self = bytes
  }
}
