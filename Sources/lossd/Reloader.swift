import Glibc
import Logging
import LossdLoop
import LossdSystemd
import LossdTensor

/// Reads the settings again when told to, and says how that went: to the log, to the service
/// manager, and in the outcome's file, where `lossd --reload` reads it. Confined to the loop's
/// thread.
final class Reloader {
  /// As they are in force.
  private(set) var settings: Settings
  private let manager: ServiceManager
  private let loop: Loop
  private let log: Logger
  private let read: @Sendable () throws -> Settings
  private let onChange: (Settings) -> Void
  private let file = ReloadFile.fromEnvironment()
  private var outcome = ReloadOutcome(pid: getpid())
  private var isReading = false
  private var isAskedAgain = false

  /// `read` reads the settings from where they came; `onChange` takes over what may change.
  init(
    _ settings: Settings, _ manager: ServiceManager, _ loop: Loop, _ log: Logger,
    read: @escaping @Sendable () throws -> Settings, onChange: @escaping (Settings) -> Void
  ) {
    self.settings = settings
    self.manager = manager
    self.loop = loop
    self.log = log
    self.read = read
    self.onChange = onChange
  }

  /// So that a reload's client finds the file before the first reload.
  func recordStart() { record() }

  func close() { file?.remove() }

  /// Begins a reload; during one, the next one.
  func reload() {
    if isReading {
      isAskedAgain = true
      return
    }
    isReading = true
    outcome.begun += 1
    record()
    manager.reloading()
    let (read, loop) = (self.read, self.loop)
    let me = LoopConfined(self)
    Task.detached {
      let result: Result<Settings, SettingError>
      do { result = .success(try read()) } catch {
        result = .failure(error as? SettingError ?? SettingError("\(error)"))
      }
      loop.execute { me.value.took(result) }
    }
  }

  private func took(_ result: Result<Settings, SettingError>) {
    let status: String
    switch result {
    case .success(let new):
      let changes = merge(new)
      onChange(settings)
      outcome.failure = nil
      status = "serving; reloaded, \(changes)"
      log.notice("reloaded: \(changes)")
    case .failure(let error):
      outcome.failure = error.text
      status = "serving with the settings before: \(error.text)"
      log.error("reload failed, the settings before stay: \(error.text)")
    }
    outcome.done = outcome.begun
    record()
    manager.ready(status)
    isReading = false
    if isAskedAgain {
      isAskedAgain = false
      reload()
    }
  }

  /// Takes over what may change while the daemon runs, and says what may not.
  private func merge(_ new: Settings) -> String {
    var changed: [String] = []
    for setting in Setting.all {
      let (before, after) = (setting.show(settings), setting.show(new))
      if before == after { continue }
      if setting.needsRestart {
        let (old, new) = (before.shownBriefly, after.shownBriefly)
        log.warning("\(setting.name) goes from \(old) to \(new) with the next restart only")
        continue
      }
      // What was shown can be read: it is how `show` is defined.
      do { try setting.apply(&settings, after) } catch { log.error("\(setting.name): \(error)") }
      changed.append("\(setting.name) \(after.shownBriefly)")
    }
    return changed.isEmpty ? "nothing changed" : changed.joined(separator: ", ")
  }

  private func record() {
    guard let file else { return }
    if let reason = file.write(outcome) { log.warning("\(reason)") }
  }
}

/// Carries a value of the loop's thread through another.
///
/// `@unchecked Sendable`: used on the loop's thread alone.
struct LoopConfined<Value>: @unchecked Sendable {
  let value: Value
  init(_ value: Value) { self.value = value }
}
