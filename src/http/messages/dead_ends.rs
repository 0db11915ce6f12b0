//! The texts of the dead ends that several routes share, and of those of the callback.

use super::catalogue::catalogue;

catalogue! {
    title_in_a_minute()
        en "Please try again in a minute"
        de "Bitte versuchen Sie es in einer Minute erneut"
        fr "Veuillez réessayer dans une minute"
        es "Vuelva a intentarlo dentro de un minuto"
        pt "Tente novamente daqui a um minuto"

    login_not_kept()
        en "The login cannot be kept at the moment. Nothing was changed."
        de "Die Anmeldung kann im Moment nicht gespeichert werden. Es wurde nichts geändert."
        fr "La connexion ne peut pas être enregistrée pour le moment. Rien n’a été modifié."
        es "En este momento no se puede guardar el inicio de sesión. No se ha cambiado nada."
        pt "No momento, não é possível salvar o login. Nada foi alterado."

    title_no_session()
        en "You are not logged in here"
        de "Sie sind hier nicht angemeldet"
        fr "Vous n’êtes pas connecté ici"
        es "No ha iniciado sesión aquí"
        pt "Você não está conectado aqui"

    begins_with_a_link(platform)
        en "A login begins with a link from {platform}. The link opens it for an hour at most."
        de "Eine Anmeldung beginnt mit einem Link von {platform}. Der Link gilt höchstens eine Stunde."
        fr "Une connexion commence par un lien envoyé par {platform}. Ce lien est valable une heure au plus."
        es "El inicio de sesión comienza con un enlace de {platform}. El enlace es válido durante una hora como máximo."
        pt "O login começa com um link enviado por {platform}. O link vale por uma hora, no máximo."

    begins_with_a_link_of_the_site()
        en "A login begins with a link from the site that sent you here. The link opens it for an hour at most."
        de "Eine Anmeldung beginnt mit einem Link von der Website, von der Sie kommen. Der Link gilt höchstens eine \
            Stunde."
        fr "Une connexion commence par un lien du site d’où vous venez. Ce lien est valable une heure au plus."
        es "El inicio de sesión comienza con un enlace del sitio desde el que llegó aquí. El enlace es válido durante \
            una hora como máximo."
        pt "O login começa com um link do site de onde você veio. O link vale por uma hora, no máximo."

    title_pages_not_linked()
        en "Your Pages were not linked"
        de "Ihre Seiten wurden nicht verknüpft"
        fr "Vos Pages n’ont pas été associées"
        es "Sus páginas no se han vinculado"
        pt "Suas Páginas não foram vinculadas"

    title_finished_before()
        en "This login was finished before"
        de "Diese Anmeldung ist bereits abgeschlossen"
        fr "Cette connexion est déjà terminée"
        es "Este inicio de sesión ya se completó"
        pt "Este login já foi concluído"

    not_an_address_of_facebook()
        en "This is not an address that Facebook's login leads to."
        de "Zu dieser Adresse führt die Anmeldung bei Facebook nicht."
        fr "La connexion Facebook ne mène pas à cette adresse."
        es "El inicio de sesión de Facebook no lleva a esta dirección."
        pt "O login do Facebook não leva a este endereço."

    login_too_old()
        en "The login took longer than ten minutes, or was begun in another browser."
        de "Die Anmeldung hat länger als zehn Minuten gedauert oder wurde in einem anderen Browser begonnen."
        fr "La connexion a duré plus de dix minutes ou a été commencée dans un autre navigateur."
        es "El inicio de sesión duró más de diez minutos o se comenzó en otro navegador."
        pt "O login levou mais de dez minutos ou foi iniciado em outro navegador."

    login_is_finished_once()
        en "A login can be finished once. If Pages are missing, start again."
        de "Eine Anmeldung kann nur einmal abgeschlossen werden. Wenn Seiten fehlen, beginnen Sie neu."
        fr "Une connexion ne peut être terminée qu’une seule fois. S’il manque des Pages, recommencez."
        es "Un inicio de sesión solo se puede completar una vez. Si faltan páginas, empiece de nuevo."
        pt "Um login só pode ser concluído uma vez. Se faltarem Páginas, comece de novo."

    login_not_begun_here()
        en "This browser did not begin the login, or took longer than the login link allows."
        de "Die Anmeldung wurde nicht in diesem Browser begonnen, oder sie hat länger gedauert, als der Anmeldelink \
            zulässt."
        fr "La connexion n’a pas été commencée dans ce navigateur, ou elle a duré plus longtemps que ne le permet le \
            lien de connexion."
        es "El inicio de sesión no se comenzó en este navegador, o duró más de lo que permite el enlace de acceso."
        pt "O login não foi iniciado neste navegador ou levou mais tempo do que o link de acesso permite."

    title_later()
        en "Please try again later"
        de "Bitte versuchen Sie es später erneut"
        fr "Veuillez réessayer plus tard"
        es "Vuelva a intentarlo más tarde"
        pt "Tente novamente mais tarde"

    too_many_logins_one_minute()
        en "Too many logins came at once. Try again in 1 minute."
        de "Es gab zu viele Anmeldungen auf einmal. Versuchen Sie es in einer Minute erneut."
        fr "Trop de connexions sont arrivées en même temps. Réessayez dans une minute."
        es "Hubo demasiados inicios de sesión a la vez. Vuelva a intentarlo dentro de 1 minuto."
        pt "Houve logins demais ao mesmo tempo. Tente novamente em 1 minuto."

    too_many_logins(minutes)
        en "Too many logins came at once. Try again in {minutes} minutes."
        de "Es gab zu viele Anmeldungen auf einmal. Versuchen Sie es in {minutes} Minuten erneut."
        fr "Trop de connexions sont arrivées en même temps. Réessayez dans {minutes}\u{a0}minutes."
        es "Hubo demasiados inicios de sesión a la vez. Vuelva a intentarlo dentro de {minutes} minutos."
        pt "Houve logins demais ao mesmo tempo. Tente novamente em {minutes} minutos."

    title_nothing_linked()
        en "Nothing was linked"
        de "Es wurde nichts verknüpft"
        fr "Rien n’a été associé"
        es "No se ha vinculado nada"
        pt "Nada foi vinculado"

    facebook_ended_the_login()
        en "Facebook ended the login."
        de "Facebook hat die Anmeldung abgebrochen."
        fr "Facebook a interrompu la connexion."
        es "Facebook interrumpió el inicio de sesión."
        pt "O Facebook encerrou o login."

    // The text of Facebook follows.
    facebook_ended_the_login_and_says(text)
        en "Facebook ended the login. It says: {text}"
        de "Facebook hat die Anmeldung abgebrochen und meldet: {text}"
        fr "Facebook a interrompu la connexion et indique\u{a0}: {text}"
        es "Facebook interrumpió el inicio de sesión e indica: {text}"
        pt "O Facebook encerrou o login e informa: {text}"

    answer_not_complete()
        en "Facebook's answer was not complete."
        de "Die Antwort von Facebook war nicht vollständig."
        fr "La réponse de Facebook était incomplète."
        es "La respuesta de Facebook no estaba completa."
        pt "A resposta do Facebook estava incompleta."

    cancelled()
        en "You left Facebook's window without choosing Pages. Pages that were linked before stay linked."
        de "Sie haben das Fenster von Facebook verlassen, ohne Seiten auszuwählen. Bereits verknüpfte Seiten bleiben \
            verknüpft."
        fr "Vous avez quitté la fenêtre de Facebook sans choisir de Pages. Les Pages déjà associées le restent."
        es "Salió de la ventana de Facebook sin elegir páginas. Las páginas que ya estaban vinculadas siguen \
            vinculadas."
        pt "Você saiu da janela do Facebook sem escolher Páginas. As Páginas que já estavam vinculadas continuam \
            vinculadas."
}
