@echo off
rem Starts launch.py with whichever Python fits; PYTHON names another one. Everything after the name is passed on.
setlocal
set "FITS=import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))"
if defined PYTHON (
    "%PYTHON%" -c "%FITS%" >nul 2>nul && (
        "%PYTHON%" "%~dp0launch.py" %*
        goto end
    )
)
for %%p in ("py -3.12" "py -3.13" "py -3.11" "py -3.14" "python" "python3") do (
    %%~p -c "%FITS%" >nul 2>nul && (
        %%~p "%~dp0launch.py" %*
        goto end
    )
)
echo error: no Python 3.11 to 3.14 was found ^(install one from https://www.python.org, or set PYTHON to one^) 1>&2
pause
exit /b 1
:end
if errorlevel 1 pause
exit /b %errorlevel%
